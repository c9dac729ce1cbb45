"""Dead letters in Django's admin: a list, all about one, and the actions Replay and Drop."""

from __future__ import annotations

from typing import Any, Callable, Optional
from urllib.parse import unquote

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.db import DatabaseError, connections
from django.db.models import BinaryField, QuerySet
from django.db.models.functions import Length, Substr
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html

from . import dead
from ._properties import decode_properties

#: So many bytes of a payload are shown.
_SHOWN = 65_536


class DeadLetterAdmin(admin.ModelAdmin):
    """Who may view dead letters sees them; to replay and to drop ("delete") takes permissions of its own."""

    list_display = ("id", "when_died", "consumer", "topic", "tries", "reason", "error", "replay")
    list_filter = ("consumer", "reason", "replay")
    search_fields = ("topic", "consumer", "traceback")
    actions = ("replay_selected", "delete_selected")
    fields = (
        "topic",
        "consumer",
        "when_died",
        "reason_in_words",
        "tries",
        "replay",
        "when_published",
        "qos",
        "retain",
        "shown_properties",
        "shown_payload",
        "shown_traceback",
    )
    readonly_fields = fields

    # ---- who may what ----

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: they die by themselves."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: they stay as they are."""
        return False

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Return whether this user may have them handled again."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.replay_{self.opts.model_name}"))

    # ---- the pages ----

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Leave what may be large in the file."""
        return super().get_queryset(request).defer("payload", "properties")

    def changelist_view(self, request: HttpRequest, *arguments: Any, **named: Any) -> HttpResponse:
        """Show the list."""
        return self._page(super().changelist_view, request, *arguments, **named)

    def changeform_view(self, request: HttpRequest, *arguments: Any, **named: Any) -> HttpResponse:
        """Show one."""
        return self._page(super().changeform_view, request, *arguments, **named)

    def delete_view(self, request: HttpRequest, *arguments: Any, **named: Any) -> HttpResponse:
        """Ask whether to drop one, and do it."""
        return self._page(super().delete_view, request, *arguments, **named)

    def _page(
        self, view: Callable[..., HttpResponse], request: HttpRequest, *arguments: Any, **named: Any
    ) -> HttpResponse:
        """Return the page, or go back with a sentence: often, nothing has died yet and there is no file."""
        try:
            problem = _problem()
        except DatabaseError as error:
            problem = f"cannot be opened just now ({error}). The broker makes it when a message dies"
        if problem is None:
            return view(request, *arguments, **named)
        self.message_user(request, f"The file of dead letters {_file()} {problem}.", messages.WARNING)
        return HttpResponseRedirect(reverse("admin:index", current_app=self.admin_site.name))

    @admin.action(description="Replay selected dead letters", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Have the broker hand them to their consumers again."""
        count = queryset.update(replay=True)
        self.message_user(
            request,
            f"{count} dead {'letter' if count == 1 else 'letters'} will be handled again: within a few "
            "seconds if the broker runs, else when it starts. Then they are gone from this list.",
            messages.SUCCESS,
        )

    @admin.action(description="Drop selected dead letters", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet) -> Optional[HttpResponse]:
        """Do what Django's own action of this name does; "drop" is the command's word for it."""
        page: Optional[HttpResponse] = delete_selected(self, request, queryset)
        return page

    # ---- columns and fields ----

    @admin.display(description="died", ordering="died")
    def when_died(self, letter: Any) -> str:
        """Return when it became a dead letter."""
        return _local(letter.died)

    @admin.display(description="published")
    def when_published(self, letter: Any) -> str:
        """Return when the message was published."""
        return _local(letter.time)

    @admin.display(description="error")
    def error(self, letter: Any) -> str:
        """Return the first words of the error."""
        line = dead.printable(dead.error_line(letter.traceback))
        return line if len(line) <= 100 else f"{line[:99]}…"

    @admin.display(description="reason")
    def reason_in_words(self, letter: Any) -> str:
        """Return why it is one."""
        meaning = dead.REASONS.get(letter.reason)
        return f"{letter.reason}: {meaning}" if meaning else str(letter.reason)

    @admin.display(description="properties")
    def shown_properties(self, letter: Any) -> Any:
        """Return the MQTT 5 properties, one a line."""
        try:
            properties = decode_properties(bytes(letter.properties))
        except ValueError as error:
            return str(error)
        return _block("\n".join(f"{name}: {value!r}" for name, value in properties.items()))

    @admin.display(description="payload")
    def shown_payload(self, letter: Any) -> Any:
        """Return the payload, or its beginning, as text or bytes."""
        found = type(letter).objects.filter(pk=letter.pk).annotate(
            head=Substr("payload", 1, _SHOWN, output_field=BinaryField()), size=Length("payload")
        ).values_list("head", "size").first()  # fmt: skip
        head, size = (bytes(found[0] or b""), found[1]) if found else (b"", 0)
        text = dead.as_text(head, size > len(head))
        shown = dead.hexadecimal(head) if text is None else text
        if size > len(head):
            shown += f"\n… {size:,} bytes in all: mqttasgi dead show {letter.pk} --payload"
        return _block(shown)

    @admin.display(description="traceback")
    def shown_traceback(self, letter: Any) -> Any:
        """Return the traceback of the last try."""
        return _block(dead.printable(letter.traceback, keep="\n"))


def _problem() -> Optional[str]:
    with connections[dead.ALIAS].cursor() as cursor:
        numbers = []
        for sql in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master"):
            cursor.execute(sql)
            numbers.append(cursor.fetchone()[0])
    identifier, version, entries = numbers
    if entries == 0:
        return "has nothing in it yet"
    return dead.refusal(identifier, version, False)


def _file() -> str:
    name = str(connections[dead.ALIAS].settings_dict["NAME"])
    return unquote(name[len("file:") :].partition("?")[0]) if name.startswith("file:") else name


def _local(milliseconds: int) -> str:
    moment = timezone.localtime(dead.moment(milliseconds))
    return str(date_format(moment, "DATETIME_FORMAT"))


def _block(text: str) -> Any:
    return format_html('<pre style="margin: 0; white-space: pre-wrap">{}</pre>', text) if text else "-"


if dead.ALIAS in settings.DATABASES:
    from .models import DeadLetter

    admin.site.register(DeadLetter, DeadLetterAdmin)

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="MotionEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False, auto_created=True)),
                ("room", models.CharField(max_length=50)),
                ("at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]

# shellcheck shell=bash
# Another Debian release in a folder, for the scripts that run themselves in one. Sourced, not run, after config/debian.sh, in the
# root of the checkout, by a script that has set root (that folder) and results (a folder for logs), and that has a function
# heading (prints what begins).

# suite_begin SUITE COMMAND...: makes build/suites/SUITE ready to be entered, with the sources in /src. COMMAND is the script that
# calls this, with its arguments: it is started again in a mount namespace of its own, so that no mount outlives it, however it
# ends. Returns 1 with a sentence.
suite_begin() {
	suite=$1
	suite_folder=$root/build/suites/$suite
	shift
	if [ "$(id -u)" -ne 0 ]; then
		printf '%s: --suite needs root, because debootstrap and chroot do: sudo %s --suite %s\n' "${1#"$root/"}" \
			"${1#"$root/"}" "$suite"
		return 1
	fi
	if [ -z "${MQTTASGI_SUITE_NAMESPACE:-}" ]; then
		if command -v unshare >/dev/null && unshare --mount true 2>/dev/null; then
			MQTTASGI_SUITE_NAMESPACE=1 exec unshare --mount --propagation private -- "$@"
		fi
		trap leave_suite EXIT
	fi
	mkdir -p "$suite_folder" "$results"
	# debootstrap refuses a folder whose path has a space.
	if [[ $suite_folder == *' '* ]]; then
		mkdir -p "/run/mqttasgi-suite-$suite"
		mount --bind "$suite_folder" "/run/mqttasgi-suite-$suite"
		suite_folder=/run/mqttasgi-suite-$suite
	fi
	make_suite "$suite_folder" && enter_suite "$suite_folder"
}

# suite_run COMMAND...: runs it in there, with its exit status.
suite_run() {
	local -a keep=()
	local name
	for name in TERM CI FUZZ_SECONDS http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY "${!PIP_@}" \
		"${certificates[@]}"; do
		[ -z "${!name+set}" ] || keep+=("$name=${!name}")
	done
	chroot "$suite_folder" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "${keep[@]}" "$@"
}

# Variables that name a certificate file or folder.
certificates=(SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE)

# make_suite FOLDER: debootstraps $suite.
make_suite() {
	local folder=$1
	local spare=$root/build/image/$suite
	[ ! -e "$folder/.complete" ] || return 0
	# The one that the image is built on is as debootstrap left it.
	if [ -e "$spare/.complete" ]; then
		cp -a "$spare/." "$folder" && return 0
	fi
	local -a missing
	mapfile -t missing < <(debian_missing debootstrap)
	[ ${#missing[@]} -eq 0 ] || debian_install "${missing[@]}" >"$results/apt.log" || return 1
	local script=/usr/share/debootstrap/scripts/$suite
	[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
	heading "debootstrap $suite"
	debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder" \
		"${DEBIAN_MIRROR:-http://deb.debian.org/debian}" "$script" >"$results/debootstrap.log" || {
		tail -n 20 "$results/debootstrap.log"
		return 1
	}
	touch "$folder/.complete"
}

# machine_settings FOLDER: gives a Debian in a folder the network and package settings of this machine.
machine_settings() {
	local folder=$1 path name
	{
		# A release that is no longer the newest keeps a date of expiry behind it.
		printf 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\nAcquire::Languages "none";\n'
		apt-config dump | grep -E '^Acquire::(http|https|ftp)::|^Acquire::Retries' || true
	} >"$folder/etc/apt/apt.conf.d/90tests"
	printf 'force-unsafe-io\n' >"$folder/etc/dpkg/dpkg.cfg.d/90tests"
	printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d"
	chmod 755 "$folder/usr/sbin/policy-rc.d"
	cp -L /etc/resolv.conf /etc/hosts "$folder/etc/"
	for path in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
		[ ! -f "$path" ] || cp "$path" "$folder/etc/pip.conf"
	done
	mkdir -p "$folder/usr/local/share/ca-certificates"
	find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$folder/usr/local/share/ca-certificates/" \;
	chroot "$folder" update-ca-certificates >/dev/null 2>&1 || return 1
	for name in PIP_CERT "${certificates[@]}"; do
		path=${!name:-}
		if [ ! -f "$path" ] || [ -e "$folder$path" ]; then continue; fi
		mkdir -p "$folder$(dirname "$path")"
		cp -L "$path" "$folder$path"
	done
}

# Gives the folder the settings of this machine, the sources, /proc and /dev.
enter_suite() {
	local folder=$1 path
	machine_settings "$folder" || return 1
	mkdir -p "$folder/src"
	find "$folder/src" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
	if git -c safe.directory="$root" rev-parse >/dev/null 2>&1; then
		git -c safe.directory="$root" ls-files -z --cached --others --exclude-standard |
			while IFS= read -r -d '' path; do [ ! -e "$path" ] || printf '%s\0' "$path"; done |
			tar --null -T - -cf - | tar -xf - -C "$folder/src" --no-same-owner
	else
		tar --exclude=./build -cf - . | tar -xf - -C "$folder/src" --no-same-owner
	fi

	# The tests of a confined service change how mounts below / spread, which takes a / that is one.
	mountpoint -q "$folder" || mount --bind "$folder" "$folder" || return 1
	mountpoint -q "$folder/proc" || mount -t proc proc "$folder/proc" || mount --rbind /proc "$folder/proc" ||
		{ printf 'This container may not mount /proc for %s; it needs CAP_SYS_ADMIN.\n' "$suite"; return 1; }
	mountpoint -q "$folder/dev" || mount --rbind /dev "$folder/dev" ||
		printf 'Going on with the device files of debootstrap.\n'
	# Wheels in a folder of this machine.
	if [[ ${PIP_FIND_LINKS:-} == /* && -d $PIP_FIND_LINKS ]]; then
		mkdir -p "$folder$PIP_FIND_LINKS"
		mountpoint -q "$folder$PIP_FIND_LINKS" || mount --bind "$PIP_FIND_LINKS" "$folder$PIP_FIND_LINKS" || return 1
	fi
}

# Only without a mount namespace: takes the mounts away again.
# shellcheck disable=SC2317,SC2329 # called by a trap
leave_suite() {
	umount -l "$suite_folder/proc" "$suite_folder/dev" "$suite_folder${PIP_FIND_LINKS:-/no-wheels}" 2>/dev/null || true
	umount -l "$suite_folder" 2>/dev/null || true
	case $suite_folder in /run/*) umount -l "$suite_folder" 2>/dev/null || true ;; esac
}

# shellcheck shell=bash
# Debian packages, for the scripts of this repository. Sourced, not run.

# Prints those of the packages $@ that are not installed, one per line.
debian_missing() {
	local package
	for package in "$@"; do
		if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
			printf '%s\n' "$package"
		fi
	done
}

# Installs the packages $@, without starting the services they bring: a broker of Debian's on port 1883 is not what
# anybody who runs these scripts asked for. Returns 1 with a sentence when this user may not install.
debian_install() {
	local -a as_root=()
	if [ "$(id -u)" -ne 0 ]; then
		if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
			as_root=(sudo)
		else
			printf 'Missing Debian packages, and this user cannot install them. Ask an administrator for:\n' >&2
			printf '  apt-get install --no-install-recommends %s\n' "$*" >&2
			return 1
		fi
	fi
	# dpkg asks this program before it starts a service; it is in nobody's way where one is there already.
	# shellcheck disable=SC2016 # expanded by the inner shell
	"${as_root[@]}" sh -c '
		policy=/usr/sbin/policy-rc.d
		if [ ! -e $policy ]; then
			trap "rm -f $policy" EXIT
			trap "exit 130" INT
			trap "exit 143" TERM
			printf "%s\n" "#!/bin/sh" "case \$1 in mosquitto*|redis*) exit 101;; esac" >$policy
			chmod 755 $policy
		fi
		apt-get update -qq &&
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
	' sh "$@" </dev/null
}

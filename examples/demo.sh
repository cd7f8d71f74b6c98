#!/bin/sh
# The first bake, on this machine alone: bakes examples/web with an embedded
# Temporal, one agent and localcloud, then launches an instance from the AMI and
# looks inside over SSH. Stops what it started.
set -eu
cd "$(dirname "$0")/.."
export BAKEHOUSE_STATE="${BAKEHOUSE_STATE:-/var/lib/bakehouse/demo}"
if [ "$(id -u)" != 0 ]; then
	echo "make demo needs root: localcloud's instances are Linux namespaces (try: sudo make demo)" >&2
	exit 1
fi
trap 'bin/submit local stop >/dev/null' EXIT

version=1.0.$(date +%s)
(cd examples/web && ../../bin/submit build -local -timeline -var "version=$version" .)

ami=$(sed -n 's/.*"artifact_id": ".*us-west-2:\(ami-[0-9a-f]*\).*/\1/p' examples/web/packer-manifest.json | tail -n 1)
echo
echo "The manifest is examples/web/packer-manifest.json."
echo "Launching an instance from the copy in us-west-2, $ami, and looking inside over SSH:"
eval "$(bin/submit local env)"
page=$(bin/localcloud run -region us-west-2 "$ami" -- cat /srv/site/index.html)
echo "$page"
case $page in
*"baked in, version $version"*) echo "It is there: version $version was baked in." ;;
*)
	echo "the page that was baked in is not there" >&2
	exit 1
	;;
esac

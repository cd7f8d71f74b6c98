#!/bin/sh
# Puts the site in place. Needs no network, so that the example bakes anywhere.
set -eu

mkdir -p /srv/site /etc/systemd/system/multi-user.target.wants
sed "s/@VERSION@/$SITE_VERSION/" /tmp/site/index.html > /srv/site/index.html
cp /tmp/site/site.service /etc/systemd/system/site.service
ln -sf ../site.service /etc/systemd/system/multi-user.target.wants/site.service
echo "$SITE_VERSION" > /etc/site-version
rm -rf /tmp/site
echo "installed the site, version $SITE_VERSION"

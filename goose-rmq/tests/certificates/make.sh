#!/bin/sh
# Makes the certificates of tests/tls.rs anew: they are stored, so that the tests need no openssl and no crate that makes
# certificates. They are valid for a hundred years and for nothing but 127.0.0.1; nobody keeps the keys of the authorities.
# Wants openssl, and faketime, because a clock that is slow must not find them too new.
set -eu
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"

# authority.pem has signed server.pem; stranger.pem has signed nothing that is used.
for name in authority stranger; do
  faketime 2020-01-01 openssl req -x509 $key -keyout "$folder/$name.key" -out "$name.pem" -days 36500 -subj "/CN=Goose test $name" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
done
# For an address and not for a name: a client that comes by the name localhost must be refused.
printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >"$folder/extensions"
faketime 2020-01-01 openssl req $key -keyout server.key -out "$folder/request" -subj "/CN=Goose test server"
faketime 2020-01-01 openssl x509 -req -in "$folder/request" -CA authority.pem -CAkey "$folder/authority.key" -set_serial 1 \
  -out server.pem -days 36500 -extfile "$folder/extensions"

#!/usr/bin/env bash
# Brings .venv-spark to what locks/spark.txt and locks/spark.jars say: Spark on the JVM with Delta, a JDK with it.
#   scripts/spark_environment.sh
# Nothing happens when neither has changed since. JDK 17 and Maven come from apt where they are not there yet.
# The jars lie in .venv-spark/jars, for spark.jars. Nothing of the SDK is installed here: pyspark and the
# pyspark-client of .venv ship the same folder.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-spark
python=${PYTHON:-python3}
wanted=$(cat locks/spark.txt locks/spark.jars "$0" | sha256sum)

say() { if [ -t 2 ]; then printf '\033[2m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi; }

need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null && return
    say "installing $2"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$2" >/dev/null
}

need java openjdk-17-jre-headless
[ -x "$venv/bin/python" ] && [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ] && exit
need mvn maven

scripts/environment.sh uv
uv=.venv-uv/bin/uv
[ ! -s /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1
say "installing locks/spark.txt into $venv"
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --clear --python "$python" "$venv"
rm -f "$venv/.installed"
export VIRTUAL_ENV=$venv
# pyspark is built from source: with the locked tools, which therefore come first.
awk '/^[a-z]/ { keep = /^(packaging|setuptools|wheel)==/ } keep' locks/spark.txt >"$venv/build.txt"
"$uv" pip install --quiet --require-hashes --no-deps -r "$venv/build.txt"
"$uv" pip sync --quiet --require-hashes --no-build-isolation locks/spark.txt

say "fetching the jars of locks/spark.jars"
rm -rf "$venv/jars"
while read -r artifact hash; do
    mvn -q -B -ntp -Dstyle.color=never dependency:copy "-Dartifact=$artifact" "-DoutputDirectory=$PWD/$venv/jars" >&2
    IFS=: read -r _ name version <<<"$artifact"
    echo "$hash  $venv/jars/$name-$version.jar" | sha256sum --check --quiet
done <locks/spark.jars
echo "$wanted" >"$venv/.installed"

#!/usr/bin/env bash
# Brings .venv to what a lock says and installs packages of this repository into it, editable.
#   scripts/environment.sh LOCK PACKAGE...
# Nothing happens when neither the lock nor a package's pyproject.toml has changed since.
# Needs python3 alone: where Debian's lacks venv, it is installed; uv comes pinned from locks/bootstrap.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=$1
shift
python=${PYTHON:-python3}
uv=.venv-uv/bin/uv

# uv brings its own certificates; where the machine keeps some (a company's among them), those count.
[ ! -s /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1

# Dim on a terminal, plain in a log.
say() { if [ -t 2 ]; then printf '\033[2m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi; }

digest() { cat "$@" | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }

is_current() { [ -x .venv/bin/python ] && [ "$(cat ".venv/.installed-$1" 2>/dev/null)" = "$2" ]; }

create_venv() {
    "$python" -m venv --clear "$1" >/dev/null 2>&1 && return
    say "python3 has no venv here: installing python3-venv"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 python3-venv >/dev/null
    "$python" -m venv --clear "$1"
}

bootstrap() {
    local wanted
    wanted=$(digest locks/bootstrap.txt)
    [ -x "$uv" ] && [ "$(cat .venv-uv/.installed 2>/dev/null)" = "$wanted" ] && return
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
        echo "aiflow needs Python 3.11, 3.12 or 3.13, and $python is $("$python" -V): try 'make PYTHON=python3.12 …'" >&2
        exit 1
    }
    say "fetching uv"
    create_venv .venv-uv
    .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        -r locks/bootstrap.txt
    echo "$wanted" >.venv-uv/.installed
}

if [ "$lock" = uv ]; then
    bootstrap
    exit
fi

manifests=()
editables=()
for package in "$@"; do
    manifests+=("$package/pyproject.toml")
    editables+=(-e "$package")
done
wanted=$(digest "locks/$lock.txt" "${manifests[@]}")
is_current "$lock" "$wanted" && exit

bootstrap
[ -x .venv/bin/python ] || "$uv" venv --quiet --clear --python "$python" .venv
export VIRTUAL_ENV=.venv
rm -f .venv/.installed-*
say "installing locks/$lock.txt into .venv"
# dev is the whole environment and nothing else stays in it; demo is a part of it and is only added.
if [ "$lock" = dev ]; then
    "$uv" pip sync --quiet --require-hashes "locks/$lock.txt"
else
    "$uv" pip install --quiet --require-hashes -r "locks/$lock.txt"
fi
"$uv" pip install --quiet --no-deps --no-build-isolation "${editables[@]}"
if [ "$lock" = dev ]; then
    # Editors and type checkers see the sources and sinks of installed plugins through a generated stub package.
    .venv/bin/aiflow plugins --stubs >/dev/null
fi
echo "$wanted" >".venv/.installed-$lock"

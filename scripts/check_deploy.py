"""Deploys a release's bundle, and a clone with `make deploy`, as somebody would who has nothing else, against an emulator.

It does not check what monitors the function, which the emulator cannot make: it lacks saved queries and alarms on
expressions. `make template` checks what AWS makes of the template.

    .tools/venv/bin/python scripts/check_deploy.py x86_64
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from commands import ACCOUNT, CLONE, NAME, REGION, VENV, client, start_emulator
from samtranslator.yaml_helper import yaml_parse

# What `deploy` may use of a system beside the AWS CLI.
PROGRAMS = ("sh", "awk", "sed", "cat", "dirname", "mktemp", "rm")
SECRET = {"clevertap_passcode": "passcode-1", "purchasely_shared_secret": "shared-1"}
GIVEN = {
    "ClevertapRegion": "eu1",
    "ClevertapAccountId": "ABC-DEF-GHIJ",
    "RevenueEvent": "none",
    "AnonymousUserIdAs": "ignore",
    "AlarmEmail": "",
    "EventNames": "TRIAL_STARTED=Trial Started;TRIAL_CONVERTED=Trial, Converted",
    # The emulator lacks AWS::Logs::QueryDefinition and alarms on expressions.
    "Monitoring": "false",
}


def edited(example: str, given: dict[str, str]) -> str:
    """The example as a deployer edits it: the placeholders replaced, a few comments removed."""
    lines = example.splitlines()
    for name, value in given.items():
        (number,) = [i for i, line in enumerate(lines) if line.startswith((f"{name}: ", f"#{name}: "))]
        lines[number] = f'{name}: "{value}"'
    return "\n".join(lines) + "\n"


def defaults(template: Path) -> dict[str, str]:
    parameters = yaml_parse(template.read_text())["Parameters"]
    return {name: str(parameter["Default"]) for name, parameter in parameters.items() if "Default" in parameter}


class World:
    """A folder with one program of each name in PATH, and an account in the emulator."""

    def __init__(self, folder: Path, emulator_url: str):
        self.folder, self.url = folder, emulator_url
        programs = folder / "programs"
        programs.mkdir()
        for name in PROGRAMS:
            (programs / name).symlink_to(shutil.which(name))
        (programs / "aws").symlink_to(VENV / "aws")
        self.environment = {
            "PATH": str(programs), "HOME": str(folder), "AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }

    def run(self, folder: Path, *command: object, code: int = 0, environment: dict[str, str] = {}) -> str:
        words = [str(word) for word in command]
        # Nobody answers a question.
        done = subprocess.run(
            words, cwd=folder, env=self.environment | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        printed = done.stdout + done.stderr
        assert done.returncode == code, f"{words} ended with {done.returncode}, not {code}:\n{printed}"
        for value in SECRET.values():
            assert value not in printed, f"{words} shows the secret"
        return printed

    def aws(self, service: str):
        return client(service, self.url)

    def parameters(self, stack: str) -> dict[str, str]:
        (described,) = self.aws("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {entry["ParameterKey"]: entry["ParameterValue"] for entry in described["Parameters"]}

    def stacks(self) -> list[str]:
        return [stack["StackName"] for stack in self.aws("cloudformation").describe_stacks()["Stacks"]]

    def uploads(self, bucket: str) -> list[str]:
        return [entry["Key"] for entry in self.aws("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def check_the_bundle(world: World, architecture: str) -> None:
    (packed,) = (CLONE / "target/dist").glob(f"purchasely-clevertap-*-{architecture}-bundle.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(world.folder, filter="data")
    (bundle,) = world.folder.glob("purchasely-clevertap-*")
    zip_name = f"purchasely-clevertap-{architecture}.zip"
    expected = {"LICENSE", "deploy", "params.example.yaml", "relay", "template.yaml", zip_name}
    assert {path.name for path in bundle.iterdir()} == expected, list(bundle.iterdir())

    assert "Example:" in world.run(bundle, "./deploy", "--help")
    version = bundle.name.split("-")[2]
    assert world.run(bundle, "./relay", "--version").split() == ["relay", version]
    # The C library of AWS CloudShell.
    needed = re.findall(rb"GLIBC_(\d+)\.(\d+)", (bundle / "relay").read_bytes())
    assert max((int(major), int(minor)) for major, minor in needed) <= (2, 34), set(needed)
    assert "params.yaml" in world.run(bundle, "./deploy", code=2)
    example = (bundle / "params.example.yaml").read_text()
    params = bundle / "params.yaml"
    for text, problem in (
        (example, "params.yaml:7: replace the placeholder of ClevertapRegion"),
        (edited(example, GIVEN).replace("AlarmEmail", "AlarmMail"), "has no parameter AlarmMail"),
        (edited(example, GIVEN | {"LogLevel": "info"}), "LogLevel is info, and must be one of"),
        (edited(example, GIVEN).replace("RevenueEvent:", "#RevenueEvent:"), "RevenueEvent is missing"),
        (edited(example, GIVEN) + "Monitoring: true\n", "Monitoring is set twice"),
    ):
        params.write_text(text)
        printed = world.run(bundle, "./deploy", code=1)
        assert problem in printed, printed
    params.write_text(edited(example, GIVEN))
    assert "set AWS_PROFILE" in world.run(bundle, "./deploy", code=2, environment={"AWS_ACCESS_KEY_ID": ""})
    assert "set AWS_REGION" in world.run(bundle, "./deploy", code=2, environment={"AWS_REGION": ""})
    assert world.stacks() == []

    printed = world.run(bundle, "./deploy")
    assert "The secret has no values yet" in printed and "/webhooks/purchasely" in printed, printed
    expected = defaults(bundle / "template.yaml") | GIVEN
    assert expected["Architecture"] == architecture
    assert world.parameters(NAME) == expected, world.parameters(NAME)
    bucket = f"{NAME}-{ACCOUNT}-{REGION}"
    block = world.aws("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(block.values()) and len(block) == 4, block
    uploads = world.uploads(bucket)
    assert len(uploads) == 2 and all(key.startswith(f"{NAME}/") for key in uploads), uploads
    (code,) = [key for key in uploads if not key.endswith(".template")]
    uploaded = world.aws("s3").get_object(Bucket=bucket, Key=code)["Body"].read()
    assert uploaded == (bundle / zip_name).read_bytes()

    # A value that params.yaml names no longer is the default again, and not the one that the stack has.
    params.write_text(edited(example, {name: value for name, value in GIVEN.items() if name != "EventNames"}))
    world.run(bundle, "./deploy")
    assert world.parameters(NAME) == expected | {"EventNames": ""}, world.parameters(NAME)

    assert "there is no bucket" in world.run(bundle, "./deploy", "--bucket", "another", code=2)
    where = {"LocationConstraint": REGION}
    world.aws("s3").create_bucket(Bucket="mine", CreateBucketConfiguration=where)
    world.run(bundle, "./deploy", "--bucket", "mine", "--stack", "other")
    assert world.parameters("other")["EventNames"] == "" and len(world.uploads("mine")) == 2


def check_the_secret(world: World, architecture: str) -> None:
    """In a stack that says it has alarms, which the emulator could not make."""
    arn = world.aws("secretsmanager").create_secret(Name="s", SecretString='{"clevertap_passcode":""}')["ARN"]
    outputs = {"SecretArn": {"Value": arn}, "WebhookUrl": {"Value": "https://api.example.com/webhooks/purchasely"}}
    body = {
        "Parameters": {"Monitoring": {"Type": "String", "Default": "true"}, "AlarmEmail": {"Type": "String", "Default": ""}},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": outputs,
    }
    world.aws("cloudformation").create_stack(StackName="with-outputs", TemplateBody=json.dumps(body))
    (bundle,) = world.folder.glob("purchasely-clevertap-*")
    file = bundle / "secret.json"
    deploy = lambda command, code=0: world.run(bundle, "./deploy", command, "--stack", "with-outputs", code=code)

    assert "purchasely_shared_secret" in deploy("secret", 2)
    for text, problem in (
        (json.dumps(SECRET)[:-1], "one JSON object"),
        (json.dumps([SECRET]), "one JSON object"),
        (json.dumps(SECRET | {"clevertap_passcode": 7}), "one JSON object"),
        (json.dumps(SECRET | {"clevertap_passcode": "..."}), "clevertap_passcode is still the placeholder"),
        (json.dumps(SECRET | {"clevertap_passcode": ""}), "clevertap_passcode is empty"),
        (json.dumps(SECRET | {"clevertap_passcode": "a\n"}), "clevertap_passcode contains a space or a line break"),
        (json.dumps(SECRET | {"clevertap_passkode": "a"}), "knows no key like clevertap_passkode"),
        (json.dumps({"clevertap_passcode": "passcode-1"}), "purchasely_shared_secret is missing"),
        (json.dumps(SECRET)[:-1] + ', "clevertap_passcode": "b"}', "clevertap_passcode is there twice"),
    ):
        file.write_text(text)
        printed = deploy("secret", 1)
        assert problem in printed, printed
    printed = deploy("report")
    for line in ("The secret has no values yet", "Nobody receives the alarms", outputs["WebhookUrl"]["Value"]):
        assert line in printed, printed
    file.write_text(json.dumps(SECRET, indent=2))
    assert "Stored the secret" in deploy("secret")
    assert json.loads(world.aws("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]) == SECRET
    assert file.exists(), "nobody was asked, and the file is gone"
    assert "The secret has" not in deploy("report")

    topic = world.aws("sns").list_topics()["Topics"][0]["TopicArn"]
    world.aws("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="on-call@example.com")
    deploy("report")


def check_make_deploy(world: World, architecture: str) -> None:
    """The clone is this one, whose function is built."""
    params = world.folder / "mine.yaml"
    given = GIVEN | {"Architecture": architecture}
    params.write_text(edited((CLONE / "params.example.yaml").read_text(), given))
    world.aws("s3").create_bucket(Bucket="zips", CreateBucketConfiguration={"LocationConstraint": REGION})
    path = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "AWS_CLI": str(VENV / "aws")}
    make = ["make", f"PARAMS={params}", "STACK=from-a-clone", "BUCKET=zips", "deploy"]
    world.run(CLONE, *make, environment=path)
    expected = defaults(CLONE / "template.yaml") | given
    assert world.parameters("from-a-clone") == expected, world.parameters("from-a-clone")
    uploads = world.uploads("zips")
    assert uploads and all(key.startswith("from-a-clone/") for key in uploads), uploads


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    emulator_url, emulator = start_emulator()
    try:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), emulator_url)
            for check in (check_the_bundle, check_the_secret, check_make_deploy):
                print(check.__name__.replace("_", " "), flush=True)
                check(world, sys.argv[1])
    finally:
        emulator.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes the CloudFormation template that AWS makes of template.yaml when it is deployed.

It runs the translator that AWS runs, without an account.

    .tools/venv/bin/python scripts/translate.py template.yaml target/cloudformation.json
"""

import json
import sys
from pathlib import Path

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# `sam deploy` puts the address of the uploaded zip here.
CODE = "s3://code/bootstrap.zip"


class NoManagedPolicies:
    """The template uses no AWS managed policy. One would be looked up in an account."""

    def load(self) -> dict[str, str]:
        return {}


def translate(text: str) -> dict:
    template = yaml_parse(text)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = CODE
    return transform(template, {}, NoManagedPolicies())


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)
        return 2
    translated = translate(Path(sys.argv[1]).read_text())
    into = Path(sys.argv[2])
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text(json.dumps(translated, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

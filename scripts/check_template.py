"""Checks facts about the stack that neither a linter nor a deployment shows: what is created for which parameters, and
what the emulator of tests/deployment lacks.

It evaluates template.yaml as CloudFormation would, and creates nothing. It does not know the function:
tests/it compares the code's own names and times with the template, and reads its alarms.

    .tools/venv/bin/python scripts/check_template.py
"""

import json
import re
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

from samtranslator.yaml_helper import yaml_parse

REQUIRED = {"ClevertapRegion": "in1", "ClevertapAccountId": "ABC-DEF-GHIJ", "RevenueEvent": "none", "AnonymousUserIdAs": "ignore"}
EMAILS = {"AlarmEmail": "a@example.com", "NoticeEmail": "n@example.com"}
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::StackName": "relay",
    "AWS::URLSuffix": "amazonaws.com", "AWS::NoValue": None,
}
ROOT = Path(__file__).parent.parent
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())


class Stack:
    """The template evaluated for parameters. A resource evaluates to its name in the template, an attribute to
    `name.attribute`."""

    def __init__(self, **parameters):
        defaults = {name: parameter.get("Default") for name, parameter in TEMPLATE["Parameters"].items()}
        unknown = parameters.keys() - defaults
        assert not unknown, f"the template has no parameters {unknown}"
        # CloudFormation evaluates every parameter as a text.
        self.values = {name: str(value) for name, value in (defaults | REQUIRED | parameters).items()}
        self.values |= PSEUDO_PARAMETERS | {name: name for name in TEMPLATE["Resources"]}

    def evaluate(self, value):
        match value:
            case [*items]: return [item for item in map(self.evaluate, items) if item is not None]
            case {"Ref": name}: return self.values[name]
            case {"Fn::GetAtt": [name, attribute]}: return f"{name}.{attribute}"
            case {"Fn::Sub": [text, {**own}]}: return self.substitute(text, self.values | self.evaluate(own))
            case {"Fn::Sub": text}: return self.substitute(text, self.values)
            case {"Fn::If": [condition, then, otherwise]}: return self.evaluate(then if self.is_true(condition) else otherwise)
            case {"Fn::Equals": [one, other]}: return self.evaluate(one) == self.evaluate(other)
            case {"Fn::Not": [condition]}: return not self.evaluate(condition)
            case {"Fn::And": conditions}: return all(map(self.evaluate, conditions))
            case {"Fn::Or": conditions}: return any(map(self.evaluate, conditions))
            case {"Condition": str(name)} if len(value) == 1: return self.is_true(name)
            case {**entries}:
                assert not any(name.startswith("Fn::") for name in entries), f"this check does not know {entries}"
                evaluated = {name: self.evaluate(entry) for name, entry in entries.items()}
                return {name: entry for name, entry in evaluated.items() if entry is not None}
        return value

    @staticmethod
    def substitute(text, values):
        # What has no value is an attribute.
        return re.sub(r"\$\{([\w:.]+)\}", lambda found: values.get(found[1], found[1]), text)

    def is_true(self, name):
        return self.evaluate(TEMPLATE["Conditions"][name])

    def existing(self, section):
        entries = TEMPLATE[section].items()
        return {k: self.evaluate(v) for k, v in entries if "Condition" not in v or self.is_true(v["Condition"])}

    def of_type(self, kind):
        resources = self.existing("Resources").items()
        return {name: resource.get("Properties", {}) for name, resource in resources if resource["Type"] == f"AWS::{kind}"}

    def only(self, kind):
        (properties,) = self.of_type(kind).values()
        return properties

    def statements(self):
        """What the function's role allows."""
        policies = [policy["PolicyDocument"]["Statement"] for policy in self.only("IAM::Role")["Policies"]]
        return [statement for policy in policies for statement in policy if statement]


def equal(actual, expected, what):
    assert actual == expected, f"{what}:\n  is       {actual}\n  expected {expected}"


def has(actual, what, **expected):
    equal({name: actual.get(name) for name in expected}, expected, what)


def check_what_a_deployment_into_the_emulator_does_not_show():
    stack = Stack()
    throttling = {"ThrottlingRateLimit": "50", "ThrottlingBurstLimit": "100"}
    has(stack.only("ApiGatewayV2::Stage"), "the stage", DefaultRouteSettings=throttling)
    source = "arn:aws:execute-api:eu-west-1:123456789012:Api/*/POST/webhooks/purchasely"
    has(stack.only("Lambda::Permission"), "who may invoke", Principal="apigateway.amazonaws.com", SourceArn=source)
    queues = stack.of_type("SQS::Queue")
    for name, queue in queues.items():
        has(queue, name, ContentBasedDeduplication=False, SqsManagedSseEnabled=True)
        has(queue, name, DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    # A failed message waits for up to 20 minutes, and SQS deletes it after 14 days.
    attempts, timeout = queues["EventQueue"]["RedrivePolicy"]["maxReceiveCount"], stack.only("Serverless::Function")["Timeout"]
    assert attempts * (20 * 60 + timeout) < 14 * 24 * 60 * 60, f"{attempts} attempts take more than 14 days"
    for delivery, concurrency, senders in (
        # CleverTap accepts 15 concurrent uploads; in direct mode, webhooks need most of them.
        ("direct", 2, ["DeadLetterQueue.Arn"]),
        ("queue", 10, ["DeadLetterQueue.Arn", "EventQueue.Arn"]),
    ):
        stack = Stack(Delivery=delivery)
        has(stack.only("Lambda::EventSourceMapping"), delivery, ScalingConfig={"MaximumConcurrency": concurrency})
        may_send = [s["Resource"] for s in stack.statements() if s["Action"] == "sqs:SendMessage"]
        equal(may_send, senders, f"the queues that the function may send to with {delivery}")


def check_what_a_security_review_asks_for():
    stack = Stack()
    (trust,) = stack.only("IAM::Role")["AssumeRolePolicyDocument"]["Statement"]
    has(trust, "who has the role", Principal={"Service": "lambda.amazonaws.com"}, Action="sts:AssumeRole")
    for name, group in stack.of_type("Logs::LogGroup").items():
        assert "RetentionInDays" in group, f"{name} keeps its lines for ever"
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    for parameters, expected in (({}, None), ({"PermissionsBoundary": boundary}, boundary)):
        roles = Stack(**parameters).of_type("IAM::Role")
        equal({name: role.get("PermissionsBoundary") for name, role in roles.items()}, {"FunctionRole": expected}, "the boundary of the roles")
    for tracing, mode, expected in (("false", "PassThrough", []), ("true", "Active", [["xray:PutTraceSegments", "xray:PutTelemetryRecords"]])):
        stack = Stack(Tracing=tracing)
        everywhere = [statement["Action"] for statement in stack.statements() if "*" in statement["Resource"]]
        equal(everywhere, expected, f"the actions on every resource with Tracing={tracing}")
        has(stack.only("Serverless::Function"), f"the function with Tracing={tracing}", Tracing=mode)


def check_what_outlives_the_stack():
    policies = {
        name: (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
        for name, resource in TEMPLATE["Resources"].items()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    kept = ("RetainExceptOnCreate", "Retain")
    equal(policies, {name: kept for name in ("DeadLetterQueue", "EventQueue", "Secret")}, "what outlives the stack")


def check_that_the_tool_matches_patterns_as_cloudformation():
    # A test of the tool writes and reads the file. CloudFormation matches whole values, and white space is ASCII.
    judged = json.loads((ROOT / "tools/src/deploy/patterns.json").read_text())
    for name, parameter in TEMPLATE["Parameters"].items():
        if pattern := parameter.get("AllowedPattern"):
            found = (re.fullmatch(pattern, value, re.ASCII) for value in judged["values"])
            equal("".join("1" if it else "0" for it in found), judged["matches"].pop(name), f"which values {pattern} matches")
    equal(judged["matches"], {}, "other patterns")


def check_what_each_parameter_creates():
    everything = Stack(**EMAILS).existing("Resources").keys()
    queues = {name for name in everything if name.startswith(("EventQueue", "DeadLetterQueue"))}
    alarms = {"DeadLettersAlarm", "DuplicatesAlarm"}
    monitoring = {name for name in everything if name.endswith(("Alarm", "Query", "Filter")) or name == "Dashboard"}
    urls = dict.fromkeys(("DEDUPLICATION_TABLE", "EVENT_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "")
    for parameter, missing, variables in (
        ({"SecretArn": "an-arn"}, {"Secret"}, {"SECRET_ID": "an-arn"}),
        ({"AlarmEmail": ""}, {"AlarmTopic"}, {}),
        ({"NoticeEmail": ""}, {"NoticeTopic"}, {}),
        ({"SilenceHours": 0}, {"SilenceAlarm"}, {}),
        ({"ClevertapDryRun": "true"}, {"NothingRelayedAlarm"}, {"CLEVERTAP_DRY_RUN": "true"}),
        ({"Monitoring": "false"}, monitoring, {}),
        ({"KeepEvents": "false"}, queues | {"ClaimsTable"} | alarms, urls),
    ):
        stack = Stack(**EMAILS | parameter)
        equal(stack.existing("Resources").keys(), everything - missing, f"what there is with {parameter}")
        has(stack.only("Serverless::Function")["Environment"]["Variables"], f"the variables with {parameter}", **variables)

    less = Stack(KeepEvents="false", Monitoring="false").existing("Outputs").keys()
    outputs = Stack().existing("Outputs")
    of_queues = {"DeadLetterQueueUrl", "DeadLettersUrl", "EventQueueUrl", "ShowDeadLettersCommand", "RedriveCommand"}
    equal(outputs.keys() - less, of_queues | {"AlarmsUrl", "DashboardUrl"}, "the outputs of KeepEvents and Monitoring")
    url = "https://Api.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely"
    equal(outputs["WebhookUrl"]["Value"], url, "WebhookUrl")
    for name in ("AlarmsUrl", "DashboardUrl", "DeadLettersUrl", "LogsUrl"):
        url = urlsplit(outputs[name]["Value"])
        equal((url.netloc, url.query), ("eu-west-1.console.aws.amazon.com", "region=eu-west-1"), f"{name}: the console's address")
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/DeadLetterQueue.QueueName"
    equal(urlsplit(outputs["DeadLettersUrl"]["Value"]).fragment, f"/queues/{quote(queue, safe='')}", "the queue of DeadLettersUrl")


def check_what_is_counted_in_the_access_log():
    stack = Stack()
    log = stack.only("ApiGatewayV2::Stage")["AccessLogSettings"]
    equal(log["DestinationArn"], "ApiLogGroup.Arn", "the access log")
    fields = json.loads(log["Format"])
    filters = stack.of_type("Logs::MetricFilter")
    for name, properties in filters.items():
        equal(properties["LogGroupName"], "ApiLogGroup", f"the log of {name}")
        (metric,) = properties["MetricTransformations"]
        equal(metric["Dimensions"], [{"Key": "FunctionName", "Value": "$.function"}], f"the dimensions of {name}")
        assert "DefaultValue" not in metric, f"{name}: CloudWatch takes a default value or dimensions, not both"
        used = set(re.findall(r"\$\.(\w+)", properties["FilterPattern"])) | {"function"}
        assert used <= fields.keys(), f"{name}: the access log has no {used - fields.keys()}"
    equal(fields["function"], "Function", "the function that a line names")

    # The function's tests read the others.
    situations = json.loads((ROOT / "tests/it/situations.json").read_text())
    variables = ("$context.status", "$context.integration.integrationStatus", "$context.integration.status")
    for situation, row in situations.items():
        if "statuses" in row:
            values = dict(zip(variables, row["statuses"]))
            line = {name: values.get(variable, "-") for name, variable in fields.items()}
            metrics = [p["MetricTransformations"][0] for p in filters.values() if matches(p["FilterPattern"], line)]
            counted = {metric["MetricName"]: int(metric["MetricValue"]) for metric in metrics}
            equal((counted, len(metrics)), (row["metrics"], len(counted)), f"what is counted if {situation}")


def matches(pattern, line):
    """What a filter pattern of CloudWatch Logs says, as far as the template uses it."""
    terms = re.findall(r'\(\$\.(\w+) (=|!=) "([^"]*)"\)', pattern)
    join, every = (" || ", any) if "||" in pattern else (" && ", all)
    rebuilt = join.join(f'($.{name} {operator} "{value}")' for name, operator, value in terms)
    equal(pattern, f"{{ {rebuilt} }}", "a pattern that this check can read")
    return every((line[name] == value) == (operator == "=") for name, operator, value in terms)


def check_the_dashboard():
    for keep in ("true", "false"):
        for hours in (0, 24):
            stack = Stack(KeepEvents=keep, SilenceHours=hours, ClevertapDryRun="false" if hours else "true")
            dashboard = json.loads(stack.only("CloudWatch::Dashboard")["DashboardBody"])
            # A widget of a log query is billed whenever somebody opens the dashboard.
            assert all(widget["type"] in ("alarm", "metric") for widget in dashboard["widgets"]), "a widget that costs"
            widgets = [widget["properties"] for widget in dashboard["widgets"]]
            shown = [alarm for widget in widgets for alarm in widget.get("alarms", [])]
            existing = [f"{name}.Arn" for name in stack.of_type("CloudWatch::Alarm")]
            equal(sorted(shown), sorted(existing), f"the dashboard's alarms with KeepEvents={keep}, SilenceHours={hours}")
            for metric in (metric for widget in widgets for metric in widget.get("metrics", [])):
                texts = [part for part in metric if isinstance(part, str)]
                assert len(texts) % 2 == 0, f"{texts}: a dimension without a value"


if __name__ == "__main__":
    assert (size := (ROOT / "template.yaml").stat().st_size) <= 60_000, f"template.yaml has {size} bytes, more than 60 kB"
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
            except AssertionError as error:
                sys.exit(f"template.yaml: {name.replace('_', ' ')}: {error}")

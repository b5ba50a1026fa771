"""Checks facts about the stack that no linter knows: what is created for which parameters, and how it is connected.

It reads what AWS makes of template.yaml, evaluates it with moto's functions, and creates nothing.

    .tools/venv/bin/python scripts/check_template.py target/cloudformation.json
"""

import json
import sys
from pathlib import Path

from moto.cloudformation.parsing import clean_json, parse_condition

REQUIRED = {"ClevertapRegion": "in1", "ClevertapAccountId": "ABC-DEF-GHIJ", "RevenueEvent": "none"}
TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"
OTHER_ACCOUNT = {"ClevertapSandboxAccountId": "TEST-DEF-GHIJ"}
EMAIL = {"AlarmEmail": "a@example.com"}
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::NoValue": None,
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "relay",
    "AWS::URLSuffix": "amazonaws.com",
}


class Resource:
    """Evaluates to its name in the template, an attribute to `name.attribute`."""

    def __init__(self, name):
        self.physical_resource_id = name

    def get_cfn_attribute(self, attribute):
        return f"{self.physical_resource_id}.{attribute}"


class Stack(dict):
    """The template evaluated for parameters. As a dictionary: what a name in it refers to."""

    def __init__(self, template, **parameters):
        super().__init__(PSEUDO_PARAMETERS)
        defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}
        unknown = parameters.keys() - defaults
        assert not unknown, f"the template has no parameters {unknown}"
        # CloudFormation evaluates every parameter as a text.
        self.update({name: str(value) for name, value in (defaults | REQUIRED | parameters).items()})
        self.update({name: Resource(name) for name in template["Resources"]})
        self.lazy_condition_map = {}
        conditions = dict(template["Conditions"])
        while conditions:
            name, condition = conditions.popitem()
            if any(used in conditions for used in references(condition)):
                conditions = {name: condition} | conditions
            else:
                self.lazy_condition_map[name] = self.is_true(condition)
        self.template = template

    def is_true(self, condition):
        return parse_condition(condition, self, self.lazy_condition_map)

    def existing(self, section):
        entries = self.template[section].items()
        created = {k: v for k, v in entries if self.lazy_condition_map.get(v.get("Condition"), True)}
        return {name: clean_json(entry, self) for name, entry in created.items()}

    def of_type(self, kind):
        resources = self.existing("Resources").items()
        return {name: resource.get("Properties", {}) for name, resource in resources if resource["Type"] == kind}

    def refusals(self):
        """The names of the parameters with which a rule's refusal begins."""
        rules = self.template["Rules"].values()
        applying = [rule for rule in rules if self.is_true(rule.get("RuleCondition", True))]
        assertions = [assertion for rule in applying for assertion in rule["Assertions"]]
        return [a["AssertDescription"].split()[0] for a in assertions if not self.is_true(a["Assert"])]


def references(condition):
    """The names of the conditions that a condition is made of."""
    if isinstance(condition, dict):
        for name, value in condition.items():
            yield from [value] if name == "Condition" else references(value)
    elif isinstance(condition, list):
        for value in condition:
            yield from references(value)


def equal(actual, expected, what):
    assert actual == expected, f"{what}:\n  is       {actual}\n  expected {expected}"


def check_the_function_and_its_route(template):
    stack = Stack(template)
    (function,) = stack.of_type("AWS::Lambda::Function").values()
    expected = {
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Timeout": 9,
        "Architectures": ["arm64"],
        "TracingConfig": {"Mode": "Active"},
        "Role": "FunctionRole.Arn",
    }
    equal({name: function[name] for name in expected}, expected, "the function")
    equal(function["LoggingConfig"]["LogFormat"], "JSON", "the function's log")
    equal(list(stack.of_type("AWS::IAM::Role")), ["FunctionRole"], "the roles")

    (api,) = stack.of_type("AWS::ApiGatewayV2::Api").values()
    equal(list(api["Body"]["paths"]), ["/webhooks/purchasely"], "the API's paths")
    (method,) = api["Body"]["paths"]["/webhooks/purchasely"].items()
    integration = method[1]["x-amazon-apigateway-integration"]
    equal(method[0], "post", "the route's method")
    expected = {"payloadFormatVersion": "2.0", "type": "aws_proxy", "timeoutInMillis": 9500}
    equal({name: integration[name] for name in expected}, expected, "the route's integration")
    assert "functions/Function.Arn/invocations" in integration["uri"], integration["uri"]

    (stage,) = stack.of_type("AWS::ApiGatewayV2::Stage").values()
    throttling = {"ThrottlingRateLimit": "200", "ThrottlingBurstLimit": "400"}
    equal((stage["StageName"], stage["AutoDeploy"]), ("$default", True), "the stage")
    equal(stage["DefaultRouteSettings"], throttling, "the stage's throttling")
    (permission,) = stack.of_type("AWS::Lambda::Permission").values()
    equal((permission["Principal"], permission["FunctionName"]), ("apigateway.amazonaws.com", "Function"), "who may invoke")
    assert permission["SourceArn"].endswith(":Api/*/POST/webhooks/purchasely"), permission["SourceArn"]


def check_the_functions_resources(template):
    names = {
        "SECRET_ID": "Secret",
        "EVENT_QUEUE_URL": "EventQueue",
        "DEAD_LETTER_QUEUE_URL": "DeadLetterQueue",
        "DEDUPLICATION_TABLE": "ClaimsTable",
    }
    for parameters, expected in (
        ({}, names),
        ({"SecretArn": "an-arn"}, names | {"SECRET_ID": "an-arn"}),
        ({"KeepEvents": "false"}, {name: "" for name in names} | {"SECRET_ID": "Secret"}),
    ):
        (function,) = Stack(template, **parameters).of_type("AWS::Lambda::Function").values()
        variables = function["Environment"]["Variables"]
        equal({name: variables[name] for name in names}, expected, f"the function's variables with {parameters}")


def check_the_rules(template):
    for parameters, expected in (
        ({}, []),
        (OTHER_ACCOUNT, []),
        ({"AlarmTopicArn": TOPIC}, []),
        ({"PurchaselySignature": "off"}, []),
        (OTHER_ACCOUNT | {"SandboxEvents": "drop"}, ["SandboxEvents"]),
        ({"ClevertapSandboxAccountId": "ABC-DEF-GHIJ"}, ["ClevertapSandboxAccountId"]),
        ({"PurchaselySignature": "off", "PurchaselySignatureToleranceSeconds": 300}, ["PurchaselySignature"]),
        ({"UserProperties": "none", "UserPropertyNames": "plan=Plan"}, ["UserProperties"]),
        ({"RevenueEvent": "Paid", "RefundEvent": "Refunded"}, []),
        ({"RevenueEvent": "Paid", "RefundEvent": "Paid"}, ["RefundEvent"]),
        ({"RefundEvent": "Charged"}, ["RefundEvent"]),
        (EMAIL | {"AlarmTopicArn": TOPIC}, ["AlarmEmail"]),
        (EMAIL | {"Monitoring": "false"}, ["Monitoring"]),
    ):
        equal(Stack(template, **parameters).refusals(), expected, f"what the rules refuse of {parameters}")


def check_what_each_parameter_creates(template):
    everything = Stack(template, **EMAIL).existing("Resources").keys()

    def missing(**parameters):
        resources = Stack(template, **EMAIL | parameters).existing("Resources")
        return everything - resources.keys()

    queues = {name for name in everything if name.startswith(("EventQueue", "DeadLetterQueue"))}
    monitoring = {name for name in everything if name.endswith(("Alarm", "Query")) or name == "Dashboard"}
    equal(missing(), set(), "what is missing by default")
    equal(missing(SecretArn="an-arn"), {"Secret"}, "what is missing with SecretArn")
    equal(missing(AlarmEmail=""), {"AlarmTopic"}, "what is missing without AlarmEmail")
    equal(missing(SilenceHours=0), {"SilenceAlarm"}, "what is missing with SilenceHours=0")
    equal(missing(Monitoring="false"), monitoring, "what is missing with Monitoring=false")
    alarms = {f"{name}Alarm" for name in ("Claims", "DeadLetterFailed", "DeadLetters", "NewDeadLetter", "OldestMessage")}
    equal(missing(KeepEvents="false"), queues | {"ClaimsTable"} | alarms, "what is missing with KeepEvents=false")
    without_queues = Stack(template, KeepEvents="false", **EMAIL).existing("Resources").keys()
    equal(without_queues - everything, {"EventHeldAlarm"}, "what only KeepEvents=false creates")

    less = Stack(template, KeepEvents="false", Monitoring="false").existing("Outputs").keys()
    outputs = Stack(template).existing("Outputs")
    of_queues = {"DeadLetterQueueUrl", "EventQueueUrl", "ShowDeadLettersCommand", "RedriveCommand"}
    equal(outputs.keys() - less, of_queues | {"DashboardUrl"}, "the outputs of KeepEvents and Monitoring")
    url = "https://Api.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely"
    equal(outputs["WebhookUrl"]["Value"], url, "WebhookUrl")


def check_the_alarms(template):
    # From the lists of metrics in each service's documentation, with the resources that they are about here.
    published = {
        ("AWS/ApiGateway", "Latency", "ApiId", "Api"),
        ("AWS/Lambda", "Errors", "FunctionName", "Function"),
        ("AWS/Lambda", "Throttles", "FunctionName", "Function"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "DeadLetterQueue.QueueName"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", "EventQueue.QueueName"),
    }
    found = set()
    for name, alarm in Stack(template, SilenceHours=168).of_type("AWS::CloudWatch::Alarm").items():
        equal(f"{alarm['AlarmName']}Alarm", f"relay-{name}", "an alarm's name")
        assert len(alarm["AlarmDescription"]) <= 1024, f"{name}: CloudWatch takes 1,024 characters"
        metrics = alarm.get("Metrics", [])
        assert len(metrics) <= 10, f"{name}: CloudWatch takes ten metrics and expressions"
        (period,) = {int(metric["MetricStat"]["Period"]) for metric in metrics if "MetricStat" in metric} or {int(alarm["Period"])}
        returned = [metric["Id"] for metric in metrics if metric.get("ReturnData", True)]
        assert len(returned) == (1 if metrics else 0), f"{name}: an alarm is on one result, not {returned}"
        periods = int(alarm["EvaluationPeriods"])
        longest = 7 * 86400 if period >= 3600 else 86400
        assert period * periods <= longest, f"{name}: CloudWatch evaluates a week at most, short periods a day"
        assert alarm.get("DatapointsToAlarm", 1) <= periods, f"{name}: more datapoints than periods"
        if alarm.get("Namespace", "PurchaselyClevertap") != "PurchaselyClevertap":
            (dimension,) = alarm["Dimensions"]
            found.add((alarm["Namespace"], alarm["MetricName"], dimension["Name"], dimension["Value"]))
    equal(found, published, "the alarms on AWS's metrics")

    for parameters, receiver in (({}, None), (EMAIL, ["AlarmTopic"]), ({"AlarmTopicArn": TOPIC}, [TOPIC])):
        for name, alarm in Stack(template, **parameters).of_type("AWS::CloudWatch::Alarm").items():
            actions = (alarm.get("AlarmActions"), alarm.get("OKActions"))
            # The end of this one means nothing.
            at_end = None if name == "NewDeadLetterAlarm" else receiver
            equal(actions, (receiver, at_end), f"the receivers of {name} with {parameters}")


def check_the_dashboard(template):
    for keep in ("true", "false"):
        for hours in (0, 24):
            stack = Stack(template, KeepEvents=keep, SilenceHours=hours)
            (dashboard,) = stack.of_type("AWS::CloudWatch::Dashboard").values()
            widgets = [widget["properties"] for widget in json.loads(dashboard["DashboardBody"])["widgets"]]
            shown = [alarm for widget in widgets for alarm in widget.get("alarms", [])]
            existing = [f"{name}.Arn" for name in stack.of_type("AWS::CloudWatch::Alarm")]
            equal(sorted(shown), sorted(existing), f"the dashboard's alarms with KeepEvents={keep}, SilenceHours={hours}")
            for metric in (metric for widget in widgets for metric in widget.get("metrics", [])):
                texts = [part for part in metric if isinstance(part, str)]
                assert len(texts) % 2 == 0, f"{texts}: a dimension without a value"


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    template = json.loads(Path(sys.argv[1]).read_text())
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check(template)
            except AssertionError as error:
                raise SystemExit(f"template.yaml: {name.replace('_', ' ')}: {error}")


if __name__ == "__main__":
    main()

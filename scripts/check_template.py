"""Checks facts about the stack that no linter knows: what is created for which parameters, and how it is connected.

It reads what AWS makes of template.yaml, evaluates it as CloudFormation would, and creates nothing.

    .tools/venv/bin/python scripts/check_template.py target/cloudformation.json
"""

import json
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import quote, urlsplit

ROOT = Path(__file__).parent.parent
REQUIRED = {"ClevertapRegion": "in1", "ClevertapAccountId": "ABC-DEF-GHIJ", "RevenueEvent": "none", "AnonymousUserIdAs": "ignore"}
TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"
OTHER_ACCOUNT = {"ClevertapSandboxAccountId": "TEST-DEF-GHIJ"}
EMAIL = {"AlarmEmail": "a@example.com"}
NOTICE_EMAIL = {"NoticeEmail": "n@example.com"}
# Somebody must act on these, or users' events stay away. The other alarms are notices.
PAGES = {
    "ApiErrorsAlarm", "CredentialsAlarm", "QueueFailedAlarm", "ErrorsAlarm", "EventHeldAlarm", "NewDeadLetterAlarm",
    "NothingRelayedAlarm", "SecretAlarm", "SilenceAlarm", "UnexpectedAlarm",
}
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::NoValue": None,
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "relay",
    "AWS::URLSuffix": "amazonaws.com",
}


class Stack:
    """The template evaluated for parameters. A resource evaluates to its name in the template, an attribute to
    `name.attribute`."""

    def __init__(self, template, **parameters):
        defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}
        unknown = parameters.keys() - defaults
        assert not unknown, f"the template has no parameters {unknown}"
        self.template = template
        # CloudFormation evaluates every parameter as a text.
        self.values = {name: str(value) for name, value in (defaults | REQUIRED | parameters).items()}
        self.values |= PSEUDO_PARAMETERS | {name: name for name in template["Resources"]}

    def evaluate(self, value):
        match value:
            case [*items]:
                return [item for item in map(self.evaluate, items) if item is not None]
            case {"Ref": name}:
                return self.values[name]
            case {"Fn::GetAtt": [name, attribute]}:
                return f"{name}.{attribute}"
            case {"Fn::Sub": [text, {**own}]}:
                return self.substitute(text, self.values | self.evaluate(own))
            case {"Fn::Sub": text}:
                return self.substitute(text, self.values)
            case {"Fn::If": [condition, then, otherwise]}:
                return self.evaluate(then if self.is_true(condition) else otherwise)
            case {"Fn::Equals": [one, other]}:
                return self.evaluate(one) == self.evaluate(other)
            case {"Fn::Not": [condition]}:
                return not self.evaluate(condition)
            case {"Fn::And": conditions}:
                return all(map(self.evaluate, conditions))
            case {"Fn::Or": conditions}:
                return any(map(self.evaluate, conditions))
            case {"Condition": str(name)} if len(value) == 1:
                return self.is_true(name)
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
        return self.evaluate(self.template["Conditions"][name])

    def existing(self, section):
        entries = self.template[section].items()
        return {k: self.evaluate(v) for k, v in entries if "Condition" not in v or self.is_true(v["Condition"])}

    def of_type(self, kind):
        resources = self.existing("Resources").items()
        return {name: resource.get("Properties", {}) for name, resource in resources if resource["Type"] == kind}

    def refusals(self):
        """The names of the parameters with which a rule's refusal begins."""
        rules = self.template["Rules"].values()
        applying = [rule for rule in rules if self.evaluate(rule.get("RuleCondition", True))]
        assertions = [assertion for rule in applying for assertion in rule["Assertions"]]
        return [a["AssertDescription"].split()[0] for a in assertions if not self.evaluate(a["Assert"])]


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
        "TracingConfig": {"Mode": "PassThrough"},
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
    throttling = {"ThrottlingRateLimit": "50", "ThrottlingBurstLimit": "100"}
    equal((stage["StageName"], stage["AutoDeploy"]), ("$default", True), "the stage")
    equal(stage["DefaultRouteSettings"], throttling, "the stage's throttling")
    (permission,) = stack.of_type("AWS::Lambda::Permission").values()
    equal((permission["Principal"], permission["FunctionName"]), ("apigateway.amazonaws.com", "Function"), "who may invoke")
    assert permission["SourceArn"].endswith(":Api/*/POST/webhooks/purchasely"), permission["SourceArn"]


def check_that_only_tracing_allows_anything_on_every_resource(template):
    xray = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
    for tracing, mode, expected in (("false", "PassThrough", []), ("true", "Active", [xray])):
        stack = Stack(template, Tracing=tracing)
        (role,) = stack.of_type("AWS::IAM::Role").values()
        statements = [s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"] if s]
        everywhere = [s["Action"] for s in statements if "*" in s["Resource"]]
        equal(everywhere, expected, f"the actions on every resource with Tracing={tracing}")
        (function,) = stack.of_type("AWS::Lambda::Function").values()
        equal(function["TracingConfig"], {"Mode": mode}, f"the function's tracing with Tracing={tracing}")


def check_what_a_security_review_asks_for(template):
    stack = Stack(template)
    (role,) = stack.of_type("AWS::IAM::Role").values()
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    equal((trust["Principal"], trust["Action"]), ({"Service": "lambda.amazonaws.com"}, "sts:AssumeRole"), "who has the role")
    (stage,) = stack.of_type("AWS::ApiGatewayV2::Stage").values()
    assert "AccessLogSettings" in stage, "the stage has no access log"
    for name, group in stack.of_type("AWS::Logs::LogGroup").items():
        assert "RetentionInDays" in group, f"{name} keeps its lines for ever"
    for name, queue in stack.of_type("AWS::SQS::Queue").items():
        equal(queue["SqsManagedSseEnabled"], True, f"the encryption of {name}")


def check_the_names(template):
    # What CloudFormation names collides with nothing, such as a queue that a deleted stack left, or a group
    # that Lambda made.
    resources = template["Resources"].items()
    named = {
        name: resource["Properties"][f"{kind}Name"]
        for name, resource in resources
        for kind in ("Function", "LogGroup", "Queue", "Role", "Table", "Topic")
        if resource["Type"].endswith(f"::{kind}") and f"{kind}Name" in resource["Properties"]
    }
    # API Gateway needs no permission to write to a group with this prefix.
    equal(named, {"ApiLogGroup": {"Fn::Sub": "/aws/vendedlogs/${AWS::StackName}/api"}}, "what has a fixed name")
    queues = [name for name, resource in resources if resource["Type"] == "AWS::SQS::Queue"]
    # Of SQS's 80 characters, CloudFormation uses two hyphens, 13 of its own and .fifo.
    left = 80 - max(map(len, queues)) - len("--") - 13 - len(".fifo")
    limit = f"the stack's name then has at most {left} characters"
    assert limit in template["Parameters"]["KeepEvents"]["Description"], f"KeepEvents does not say: {limit}"


def check_what_outlives_the_stack(template):
    policies = {}
    for name, resource in template["Resources"].items():
        policy = resource.get("DeletionPolicy", "Delete")
        if policy != "Delete":
            policies[name] = (policy, resource["UpdateReplacePolicy"])
    kept = ("RetainExceptOnCreate", "Retain")
    equal(policies, {name: kept for name in ("DeadLetterQueue", "EventQueue", "Secret")}, "what outlives the stack")


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
        (EMAIL | {"NoticeTopicArn": TOPIC}, []),
        ({"RevenueEvent": "Paid", "RefundEvent": "Refunded"}, []),
        ({"RevenueEvent": "Paid", "RefundEvent": "Paid"}, ["RefundEvent"]),
        ({"RefundEvent": "Charged"}, ["RefundEvent"]),
        (EMAIL | {"AlarmTopicArn": TOPIC}, ["AlarmEmail"]),
        (NOTICE_EMAIL | {"NoticeTopicArn": TOPIC}, ["NoticeEmail"]),
        ({"Monitoring": "false"}, []),
        (EMAIL | {"Monitoring": "false"}, ["Monitoring"]),
        ({"NoticeTopicArn": TOPIC, "Monitoring": "false"}, ["Monitoring"]),
        ({"Delivery": "queue"}, []),
        ({"ReservedConcurrency": 20}, []),
        ({"Delivery": "queue", "KeepEvents": "false"}, ["Delivery"]),
        ({"Delivery": "queue", "ClevertapDryRun": "true"}, ["ClevertapDryRun"]),
        ({"Delivery": "queue", "ReservedConcurrency": 20}, ["ReservedConcurrency"]),
    ):
        equal(Stack(template, **parameters).refusals(), expected, f"what the rules refuse of {parameters}")


def check_what_each_parameter_creates(template):
    emails = EMAIL | NOTICE_EMAIL
    everything = Stack(template, **emails).existing("Resources").keys()

    def missing(**parameters):
        resources = Stack(template, **emails | parameters).existing("Resources")
        return everything - resources.keys()

    queues = {name for name in everything if name.startswith(("EventQueue", "DeadLetterQueue"))}
    monitoring = {name for name in everything if name.endswith(("Alarm", "Query", "Filter")) or name == "Dashboard"}
    equal(missing(), set(), "what is missing by default")
    equal(missing(SecretArn="an-arn"), {"Secret"}, "what is missing with SecretArn")
    equal(missing(AlarmEmail=""), {"AlarmTopic"}, "what is missing without AlarmEmail")
    equal(missing(NoticeEmail=""), {"NoticeTopic"}, "what is missing without NoticeEmail")
    equal(missing(SilenceHours=0), {"SilenceAlarm"}, "what is missing with SilenceHours=0")
    equal(missing(Monitoring="false"), monitoring, "what is missing with Monitoring=false")
    alarms = {f"{name}Alarm" for name in ("Claims", "DeadLetters", "NewDeadLetter", "OldestMessage", "QueueFailed")}
    equal(missing(KeepEvents="false"), queues | {"ClaimsTable"} | alarms, "what is missing with KeepEvents=false")
    without_queues = Stack(template, KeepEvents="false", **emails).existing("Resources").keys()
    equal(without_queues - everything, {"EventHeldAlarm"}, "what only KeepEvents=false creates")

    less = Stack(template, KeepEvents="false", Monitoring="false").existing("Outputs").keys()
    outputs = Stack(template).existing("Outputs")
    of_queues = {"DeadLetterQueueUrl", "DeadLettersUrl", "EventQueueUrl", "ShowDeadLettersCommand", "RedriveCommand"}
    equal(outputs.keys() - less, of_queues | {"AlarmsUrl", "DashboardUrl"}, "the outputs of KeepEvents and Monitoring")
    url = "https://Api.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely"
    equal(outputs["WebhookUrl"]["Value"], url, "WebhookUrl")
    for name in ("AlarmsUrl", "DashboardUrl", "DeadLettersUrl", "LogsUrl"):
        url = urlsplit(outputs[name]["Value"])
        equal((url.netloc, url.query), ("eu-west-1.console.aws.amazon.com", "region=eu-west-1"), f"{name}: the console's address")
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/DeadLetterQueue.QueueName"
    equal(outputs["DeadLettersUrl"]["Value"].partition("#")[2], f"/queues/{quote(queue, safe='')}", "the queue of DeadLettersUrl")


def check_each_way_of_delivery(template):
    for delivery, concurrency, senders in (
        ("direct", 2, ["DeadLetterQueue.Arn"]),
        ("queue", 10, ["DeadLetterQueue.Arn", "EventQueue.Arn"]),
    ):
        stack = Stack(template, Delivery=delivery)
        (function,) = stack.of_type("AWS::Lambda::Function").values()
        equal(function["Environment"]["Variables"]["DELIVERY"], delivery, "DELIVERY")
        (mapping,) = stack.of_type("AWS::Lambda::EventSourceMapping").values()
        equal(mapping["ScalingConfig"], {"MaximumConcurrency": concurrency}, f"the consumers with {delivery}")
        (policy,) = stack.of_type("AWS::IAM::Role")["FunctionRole"]["Policies"]
        statements = policy["PolicyDocument"]["Statement"]
        may_send = [s["Resource"] for s in statements if s["Action"] == "sqs:SendMessage"]
        equal(may_send, senders, f"the queues that the function may send to with {delivery}")


def check_the_alarms(template):
    # From the lists of metrics in each service's documentation, with the resources that they are about here.
    published = {
        ("AWS/ApiGateway", "Count", "ApiId", "Api"),
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
        for metric in [metric["MetricStat"]["Metric"] for metric in metrics if "MetricStat" in metric] or [alarm]:
            if metric["Namespace"] != "PurchaselyClevertap":
                (dimension,) = metric["Dimensions"]
                found.add((metric["Namespace"], metric["MetricName"], dimension["Name"], dimension["Value"]))
    equal(found, published, "the alarms on AWS's metrics")


def check_who_receives_an_alarm(template):
    for parameters, page, notice in (
        ({}, None, None),
        (EMAIL, ["AlarmTopic"], None),
        (NOTICE_EMAIL, None, ["NoticeTopic"]),
        ({"AlarmTopicArn": TOPIC}, [TOPIC], None),
        ({"NoticeTopicArn": TOPIC}, None, [TOPIC]),
        (EMAIL | {"NoticeTopicArn": TOPIC}, ["AlarmTopic"], [TOPIC]),
    ):
        for keep in ("true", "false"):
            for name, alarm in Stack(template, KeepEvents=keep, **parameters).of_type("AWS::CloudWatch::Alarm").items():
                actions = (alarm.get("AlarmActions"), alarm.get("OKActions"))
                # The end of this one means nothing.
                expected = (page, None if name == "NewDeadLetterAlarm" else page) if name in PAGES else (notice, None)
                equal(actions, expected, f"the receivers of {name} with {parameters}")
    alarms = {name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::CloudWatch::Alarm"}
    equal(PAGES - alarms, set(), "the pages that do not exist")


def check_the_alarm_on_a_spike_of_requests(template):
    for rate, requests, expected in ((50, 7499, False), (50, 7500, True), (100, 7500, False)):
        alarm = Stack(template, ThrottlingRate=rate).of_type("AWS::CloudWatch::Alarm")["RequestSpikeAlarm"]
        (metric,) = [metric["MetricStat"] for metric in alarm["Metrics"] if "MetricStat" in metric]
        (expression,) = [metric["Expression"] for metric in alarm["Metrics"] if "Expression" in metric]
        names = {"requests": requests, "PERIOD": lambda _: int(metric["Period"])}
        percent = eval(expression, {"__builtins__": {}}, names)
        is_raised = percent >= float(alarm["Threshold"])
        equal(is_raised, expected, f"RequestSpike with {requests} requests in five minutes and ThrottlingRate={rate}")


def check_what_is_counted_in_the_access_log(template):
    stack = Stack(template)
    (stage,) = stack.of_type("AWS::ApiGatewayV2::Stage").values()
    equal(stage["AccessLogSettings"]["DestinationArn"], "ApiLogGroup.Arn", "the access log")
    fields = json.loads(stage["AccessLogSettings"]["Format"])
    filters = stack.of_type("AWS::Logs::MetricFilter")
    for name, properties in filters.items():
        equal(properties["LogGroupName"], "ApiLogGroup", f"the log of {name}")
        (metric,) = properties["MetricTransformations"]
        equal(metric["Dimensions"], [{"Key": "ApiId", "Value": "$.apiId"}], f"the dimensions of {name}")
        assert "DefaultValue" not in metric, f"{name}: CloudWatch takes a default value or dimensions, not both"
        used = set(re.findall(r"\$\.(\w+)", properties["FilterPattern"])) | {"apiId"}
        assert used <= fields.keys(), f"{name}: the access log has no {used - fields.keys()}"

    def counted(status, of_lambda, of_function):
        values = {
            "$context.status": status,
            "$context.integration.integrationStatus": of_lambda,
            "$context.integration.status": of_function,
        }
        line = {name: values.get(variable, "-") for name, variable in fields.items()}
        return [name.removesuffix("Filter") for name, f in filters.items() if matches(f["FilterPattern"], line)]

    for situation, statuses, expected in (
        ("relayed", ("200", "200", "200"), []),
        ("not signed", ("401", "200", "401"), []),
        ("the function is unavailable", ("503", "200", "503"), []),
        ("the function failed", ("500", "200", "-"), []),
        ("Lambda throttles", ("503", "429", "-"), []),
        ("Lambda throttles, and API Gateway says so", ("429", "429", "-"), []),
        ("no permission to invoke", ("500", "403", "-"), ["ApiErrors"]),
        ("Lambda does not answer", ("503", "-", "-"), ["ApiErrors"]),
        ("over the rate", ("429", "-", "-"), ["TooManyRequests"]),
        ("another path", ("404", "-", "-"), []),
    ):
        equal(counted(*statuses), expected, f"what is counted if {situation}")
    for name in filters:
        metric = name.removesuffix("Filter")
        alarm = stack.of_type("AWS::CloudWatch::Alarm")[f"{metric}Alarm"]
        equal((alarm["MetricName"], alarm["Dimensions"]), (metric, [{"Name": "ApiId", "Value": "Api"}]), f"the alarm on {name}")


def matches(pattern, line):
    """What a filter pattern of CloudWatch Logs says, as far as the template uses it."""
    terms = re.findall(r'\(\$\.(\w+) (=|!=) "([^"]*)"\)', pattern)
    rebuilt = " && ".join(f'($.{name} {operator} "{value}")' for name, operator, value in terms)
    equal(pattern, f"{{ {rebuilt} }}", "a pattern that this check can read")
    return all(fnmatchcase(line[name], value) == (operator == "=") for name, operator, value in terms)


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


def check_the_queues(template):
    stack = Stack(template)
    fourteen_days = 14 * 24 * 60 * 60
    (function,) = stack.of_type("AWS::Lambda::Function").values()
    for name, queue in stack.of_type("AWS::SQS::Queue").items():
        expected = {
            "FifoQueue": True,
            "ContentBasedDeduplication": False,
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
            "MessageRetentionPeriod": fourteen_days,
            # The largest webhook in base64 has 342 KiB.
            "MaximumMessageSize": 1024 * 1024,
        }
        equal({property: queue.get(property) for property in expected}, expected, name)
    queue = stack.of_type("AWS::SQS::Queue")["EventQueue"]
    # Lambda needs six times its timeout; a claim in progress lasts 10 s.
    equal(queue["VisibilityTimeout"], 300, "the visibility of EventQueue")
    assert queue["VisibilityTimeout"] >= max(6 * function["Timeout"], 10)
    redrive = queue["RedrivePolicy"]
    equal(redrive["deadLetterTargetArn"], "DeadLetterQueue.Arn", "where SQS moves messages of EventQueue")
    # 1000 is the most that SQS allows; a failed message waits for up to 20 minutes.
    attempts = redrive["maxReceiveCount"]
    assert attempts <= 1000 and attempts * (20 * 60 + function["Timeout"]) < fourteen_days, "a message expires before its last attempt"
    (mapping,) = stack.of_type("AWS::Lambda::EventSourceMapping").values()
    expected = {"EventSourceArn": "EventQueue.Arn", "FunctionResponseTypes": ["ReportBatchItemFailures"], "BatchSize": 10}
    equal({property: mapping.get(property) for property in expected}, expected, "the event source mapping")


def check_what_raises_each_alarm(template):
    # The function's tests check that these situations are counted so.
    situations = json.loads((ROOT / "tests/it/situations.json").read_text())
    alarms = {}
    for keep in ("true", "false"):
        alarms |= Stack(template, KeepEvents=keep).of_type("AWS::CloudWatch::Alarm")
    own = {name for name, alarm in alarms.items() if {"PurchaselyClevertap", "FunctionName"} <= set(re.findall(r"\w+", str(alarm)))}
    for situation, row in situations.items():
        raised = {name for name in own if is_raised(alarms[name], row["counts"])}
        equal(raised, set(row["alarms"]), f"the alarms if {situation}")
    equal(own - {name for row in situations.values() for name in row["alarms"]}, set(), "the alarms that no situation raises")


def is_raised(alarm, counts):
    """Whether a period with these counts of the function counts towards the alarm."""

    def value(metric, statistic):
        equal(statistic, "SampleCount" if metric["MetricName"] == "EventAge" else "Sum", f"the statistic of {metric['MetricName']}")
        classes = [dimension["Value"] for dimension in metric["Dimensions"] if dimension["Name"] != "FunctionName"]
        return counts.get(" ".join([metric["MetricName"], *classes]))

    # CloudWatch's functions, as far as the template uses them. What has no data is missing, and so is what needs it.
    names = {"FILL": lambda count, default: default if count is None else count, "IF": lambda test, then, other: then if test else other}
    names |= {metric["Id"]: value(metric["MetricStat"]["Metric"], metric["MetricStat"]["Stat"]) for metric in alarm.get("Metrics", []) if "MetricStat" in metric}
    expressions = [metric["Expression"] for metric in alarm.get("Metrics", []) if "Expression" in metric]
    try:
        count = eval(expressions[0].strip(), {"__builtins__": {}}, names) if expressions else value(alarm, alarm["Statistic"])
    except (TypeError, ZeroDivisionError):
        count = None
    if count is None:
        return alarm["TreatMissingData"] == "breaching"
    is_below = count < float(alarm["Threshold"])
    return {"LessThanThreshold": is_below, "GreaterThanOrEqualToThreshold": not is_below}[alarm["ComparisonOperator"]]


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

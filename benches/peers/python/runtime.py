"""The smallest loop between the Lambda Runtime API and a handler, in place of the managed runtime's.

It does less than that one: no extensions, no log capture, no error reports.
"""

import http.client
import json
import os
import time

from relay import handler

INVOCATION = "/2018-06-01/runtime/invocation/"

runtime_api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


class Context:
    function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]

    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return self.deadline_ms - int(time.time() * 1000)


def call(method, path, body=None):
    runtime_api.request(method, INVOCATION + path, body)
    response = runtime_api.getresponse()
    return response.headers, response.read()


while True:
    headers, event = call("GET", "next")
    context = Context(headers)
    call("POST", f"{context.aws_request_id}/response", json.dumps(handler(json.loads(event), context)))

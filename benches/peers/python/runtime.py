"""The smallest loop between the Lambda Runtime API and a handler, in place of the managed runtime's.

It does less than that one: no extensions, no log capture, no error reports.
"""

import http.client
import json
import os

from relay import handler

INVOCATION = "/2018-06-01/runtime/invocation/"

runtime_api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    runtime_api.request(method, INVOCATION + path, body)
    response = runtime_api.getresponse()
    return response.getheader("Lambda-Runtime-Aws-Request-Id"), response.read()


while True:
    request_id, event = call("GET", "next")
    call("POST", f"{request_id}/response", json.dumps(handler(json.loads(event))))

"""The published fireworks-ai, unmodified: users, keys and deployments, through its own methods."""

from __future__ import annotations

import json

import pytest

from tests.clients.servers import PUBLISHED as BIN
from tests.loop import projects
from tests.loop.platform import REPO

pytestmark = pytest.mark.clients

USERS_AND_KEYS = """
import json
from fireworks import Fireworks, PermissionDeniedError

client = Fireworks()
user = client.users.create(role="user", service_account=True, user_id="published", extra_body={"permissionPreset": "pilot"})
key = client.api_keys.create("published", api_key={"display_name": "one"})
pilot = Fireworks(api_key=key.key)
pilot.datasets.create(dataset_id="by-the-pilot", dataset={"display_name": "d"})
try:
    pilot.datasets.delete("by-the-pilot")
    refused = ""
except PermissionDeniedError as error:
    refused = error.body["message"]
listed = [found.key_id for found in client.api_keys.list("published")]
client.api_keys.delete("published", key_id=key.key_id)
print(json.dumps({
    "user": [user.name, user.role, user.service_account],
    "found": client.users.get("published").email,
    "changed": client.users.update("published", role="contributor").role,
    "users": [found.name for found in client.users.list()],
    "refused": refused,
    "listed": listed == [key.key_id],
    "left": [found.key_id for found in client.api_keys.list("published")],
}))
"""

DEPLOYMENTS = """
import json, time
from fireworks import Fireworks

client = Fireworks()
made = client.deployments.create(base_model=BASE, deployment_id="published", display_name="d", min_replica_count=1)
while client.deployments.get("published").state == "CREATING":
    time.sleep(0.2)
ready = client.deployments.get("published")
messages = [{"role": "user", "content": "What is 2 + 2?"}]
answer = client.chat.completions.create(model="accounts/local/deployments/published", messages=messages, max_tokens=8)
client.deployments.scale("published", replica_count=0)
idle = client.deployments.get("published")
def mine():  # other tests work on the same platform
    return [found.name for found in client.deployments.list() if found.name == made.name]
listed = mine()
client.deployments.delete("published")
print(json.dumps({
    "made": [made.name, made.base_model],
    "ready": [ready.state, ready.replica_count],
    "answer": [answer.model, bool(answer.choices[0].message.content)],
    "idle": [idle.state, idle.replica_count],
    "listed": listed,
    "left": mine(),
}))
"""


def run(platform, environment, script: str) -> dict:
    ended = platform.run(BIN / "python", "-c", script, cwd=REPO, env=environment, timeout=120)
    assert ended.returncode == 0, ended.stdout
    return json.loads(ended.stdout.splitlines()[-1])


def test_users_and_keys(platform, environment):
    told = run(platform, environment, USERS_AND_KEYS)
    assert "DeleteDataset" in told.pop("refused")
    assert told == {
        "user": ["accounts/local/users/published", "user", True],
        "found": "published@local.sa.tunesmith.local",
        "changed": "contributor",
        "users": ["accounts/local/users/published"],
        "listed": True,
        "left": [],
    }


def test_deployments(platform, environment):
    name = "accounts/local/deployments/published"
    assert run(platform, environment, f"BASE = {projects.BASE!r}\n{DEPLOYMENTS}") == {
        "made": [name, projects.BASE],
        "ready": ["READY", 1],
        "answer": [projects.BASE, True],
        "idle": ["READY", 0],
        "listed": [name],
        "left": [],
    }

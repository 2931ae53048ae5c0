"""The description of the endpoints in OpenAPI 3.0, served at ``/openapi.json``.

It says what each endpoint takes and answers. Tests compare it with the routes that there are, and send everything that
it allows, and much that it does not.
"""

from __future__ import annotations

from typing import Any

from backend import __version__

Json = dict[str, Any]

_OBJECT: Json = {"type": "object"}
_TEXT: Json = {"type": "string"}
_PROJECT: Json = {
    "description": "A project's id in Label Studio, alone or with the seconds of its creation.",
    "oneOf": [
        {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
        {"type": "string", "pattern": r"^[1-9][0-9]{0,8}(\.[0-9]{1,10})?$"},
    ],
    "example": "5.1700000000",
}
_TASK: Json = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "project": {"type": "integer"},
        "data": {"type": "object", "description": "Under the key of the label config, the image's address."},
    },
}
_PREDICTION: Json = {
    "type": "object",
    "required": ["result", "score", "model_version"],
    "properties": {
        "result": {"type": "array", "items": _OBJECT, "description": "Regions, as in an annotation."},
        "score": {"type": "number", "description": "Lowest first in the queue."},
        "model_version": {"type": "string", "description": "Empty: no version has a prediction for the task."},
    },
}
_ERROR: Json = {"type": "object", "required": ["error"], "properties": {"error": _TEXT}}


def description() -> Json:
    """The whole description."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Active learning for Label Studio",
            "version": __version__,
            "description": "What Label Studio calls on an ML backend, and what is for people and monitoring.",
            "license": {"name": "Apache-2.0"},
        },
        "security": [{}, {"basic": []}],
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {"Error": _ERROR, "Prediction": _PREDICTION, "Task": _TASK},
        },
        "paths": {path: {method: _operation(**one) for method, one in found.items()} for path, found in _PATHS.items()},
    }


def _operation(
    summary: str,
    answer: Json | str,
    *,
    body: Json | None = None,
    form: Json | None = None,
    query: Json | None = None,
    path: Json | None = None,
    status: int = 200,
    refusals: tuple[int, ...] = (),
    for_browsers: bool = False,
) -> Json:
    """``answer``: the schema of a JSON answer, or the content type of another one. ``body`` is JSON, a ``form`` that of
    a page. ``refusals``: statuses besides 401 and, with a body, 400 and those about its size. ``for_browsers``: whoever
    accepts ``text/html`` gets a page instead."""
    content = {answer: {"schema": _TEXT}} if isinstance(answer, str) else _json(answer)
    if for_browsers:
        content |= {"text/html": {"schema": _TEXT}}
    statuses = sorted({401, *refusals, *((400, 413) if body or form else ())})
    operation: Json = {
        "summary": summary,
        "responses": {
            str(status): {"description": "Done.", "content": content},
            **{str(one): {"description": _WORDS[one], "content": _json(_ref("Error"))} for one in statuses},
        },
    }
    if body:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    if form:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": form}},
        }
    parameters = [
        {"name": name, "in": place, "required": place == "path", "schema": schema}
        for place, found in (("path", path), ("query", query))
        for name, schema in (found or {}).items()
    ]
    if parameters:
        operation["parameters"] = parameters
    return operation


_WORDS = {
    400: "Something is missing or wrong; the message says what to change.",
    401: "A password is set, and the request has none or another one.",
    403: "No password is set, and the request is not of this machine, or would change something.",
    404: "There is no such thing, or the address is not one that a page gave.",
    410: "There is no such job.",
    413: "The body is too large.",
}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(required: tuple[str, ...] = (), **properties: Json) -> Json:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


_HEALTH = {
    "summary": "Whether the web process is up",
    "answer": _body(("status",), status={"type": "string", "enum": ["UP"]}, model_class=_TEXT, version=_TEXT),
}

_PAGE: Json = {"project": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}}
_PART: Json = {"part": {"type": "string", "enum": ["now"], "description": "Only what changes while a page is open."}}
_OR_MAP: Json = {
    "part": {
        "type": "string",
        "enum": ["now", "map"],
        "description": "Only what changes while the page is open; or the images of its map, as JSON.",
    }
}


def _form(summary: str, **values: Json) -> dict[str, Any]:
    """A form of the page of a project. ``values``: what it sends beside its token."""
    token = {"type": "string", "description": "As the page of the project has it."}
    return {
        "summary": summary,
        "answer": "text/html",
        "path": _PAGE,
        "form": _body((*values, "token"), **values, token=token),
        "status": 303,
        "refusals": (403, 404),
    }


def _task_form(summary: str) -> dict[str, Any]:
    return _form(summary, task={"type": "string", "description": "The number of the task in Label Studio."})


_PATHS: dict[str, dict[str, Any]] = {
    "/": {
        "get": _HEALTH
        | {
            "summary": "Whether the web process is up; for browsers, all projects",
            "query": _PART,
            "refusals": (403,),
            "for_browsers": True,
        }
    },
    "/projects/{project}": {
        "get": {
            "summary": "The page of a project",
            "answer": "text/html",
            "path": _PAGE,
            "query": _OR_MAP,
            "refusals": (403, 404),
        }
    },
    "/projects/{project}/cycle": {"post": _form("Its form: ask for a cycle")},
    "/projects/{project}/replay": {"post": _form("Its form: ask for a replay of the labels")},
    "/projects/{project}/again": {"post": _task_form("Its form: ask one more annotator to label a task")},
    "/projects/{project}/not-again": {"post": _task_form("Its form: take that back")},
    "/projects/{project}/images/{name}": {
        "get": {
            "summary": "A picture on it",
            "answer": "image/jpeg",
            "path": _PAGE | {"name": _TEXT},
            "refusals": (403, 404),
        }
    },
    "/projects/{project}/masks/{name}": {
        "get": {
            "summary": "A predicted mask, to lie over a picture",
            "answer": "image/png",
            "path": _PAGE | {"name": _TEXT},
            "refusals": (403, 404),
        }
    },
    "/projects/{project}/learned.png": {
        "get": {
            "summary": "What a sampler learned from the images, as a picture",
            "answer": "image/png",
            "path": _PAGE,
            "refusals": (403, 404),
        }
    },
    "/assets/{name}": {
        "get": {
            "summary": "Style sheet, script and icon of the pages",
            "answer": "text/css",
            "path": {"name": {"type": "string", "enum": ["page.css"]}},
            "refusals": (404,),
        }
    },
    "/health": {"get": _HEALTH},
    "/setup": {
        "post": {
            "summary": "Label Studio connects a project",
            "answer": _body(("model_version",), model_version=_TEXT),
            "body": _body(
                ("project", "schema"),
                project=_PROJECT,
                schema={"type": "string", "description": "The label config."},
                hostname={"type": "string", "nullable": True, "description": "Label Studio's own address."},
                access_token={"type": "string", "nullable": True, "description": "A legacy token of Label Studio."},
                extra_params={"description": "The project's settings: an object, or the same as JSON text."},
            ),
        }
    },
    "/predict": {
        "post": {
            "summary": "One prediction for each task, in order",
            "answer": _body(
                ("results", "model_version"),
                results={"type": "array", "items": _ref("Prediction")},
                model_version=_TEXT,
            ),
            "body": _body(
                ("tasks",),
                tasks={"type": "array", "items": _ref("Task")},
                project=_PROJECT,
                label_config=_TEXT,
                params=_body(context={"description": "Not used."}),
            ),
        }
    },
    "/webhook": {
        "post": {
            "summary": "Label Studio reports that something changed",
            "answer": _body(("status",), status={"type": "string", "enum": ["noted", "ignored"]}, reason=_TEXT),
            "status": 201,
            "body": _body(
                ("action", "project"),
                action={"type": "string", "example": "ANNOTATION_CREATED"},
                project={"oneOf": [_body(("id",), id={"type": "integer"}, label_config=_TEXT), _PROJECT]},
            ),
        }
    },
    "/versions": {
        method: {
            "summary": "The published versions",
            "answer": _body(
                ("versions", "projects"),
                versions={"type": "array", "items": _TEXT},
                projects={"type": "object", "additionalProperties": _OBJECT},
            ),
            "query": {"project": _PROJECT},
            "refusals": (400,),
            **({"body": _body(project=_PROJECT)} if method == "post" else {}),
        }
        for method in ("get", "post")
    },
    "/metrics": {"get": {"summary": "Metrics in Prometheus's text format", "answer": "text/plain"}},
    "/train": {
        "post": {
            "summary": "Start training",
            "answer": _body(("job",), job=_TEXT),
            "status": 201,
            "body": _body(("project",), project=_PROJECT),
        }
    },
    "/job_status": {
        "post": {
            "summary": "What became of a training",
            "answer": _body(
                ("job_status",),
                job_status={"type": "string", "enum": ["queued", "started", "finished"]},
                error={"type": "string", "nullable": True},
            ),
            "body": _body(("job",), job={"type": "string", "example": "5-1"}),
            "refusals": (410,),
        }
    },
    "/openapi.json": {"get": {"summary": "This description", "answer": _OBJECT}},
}

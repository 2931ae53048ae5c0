"""The routes of 2.x: one plugin constructed for every request, ``fit`` inside the webhook's."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify, request

from label_studio_ml.response import ModelResponse

_server = Flask(__name__)
MODEL_CLASS: Any = None
TRAIN_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")


def init_app(model_class: Any, basic_auth_user: str | None = None, basic_auth_pass: str | None = None) -> Flask:
    global MODEL_CLASS
    MODEL_CLASS = model_class
    return _server


@_server.route("/predict", methods=["POST"])
def _predict() -> Any:
    data = request.json
    project = data.get("project")
    project_id = project.split(".", 1)[0] if project else None
    params = data.get("params", {})
    context = params.pop("context", {})
    model = MODEL_CLASS(project_id=project_id, label_config=data.get("label_config"))
    response = model.predict(data.get("tasks"), context=context, **params)
    if isinstance(response, ModelResponse):
        response = response.predictions
    return jsonify({"results": response or []})


@_server.route("/setup", methods=["POST"])
def _setup() -> Any:
    data = request.json
    project_id = data.get("project").split(".", 1)[0]
    model = MODEL_CLASS(project_id=project_id, label_config=data.get("schema"))
    extra_params = data.get("extra_params")
    if extra_params:
        model.set_extra_params(extra_params)
    return jsonify({"model_version": model.get("model_version")})


@_server.route("/webhook", methods=["POST"])
def webhook() -> Any:
    data = request.json
    event = data.pop("action")
    if event not in TRAIN_EVENTS:
        return jsonify({"status": "Unknown event"}), 200
    model = MODEL_CLASS(str(data["project"]["id"]), label_config=data["project"]["label_config"])
    return jsonify({"result": model.fit(event, data), "status": "ok"}), 201

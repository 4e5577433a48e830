"""The API in OpenAPI 3.1: what ``GET /v1/openapi.json`` answers and the page ``/docs`` shows."""

from __future__ import annotations

from typing import Any

from mmvideoiq import __version__
from mmvideoiq.service.serve.settings import MIB, Limits


def schema(**properties: Any) -> dict[str, Any]:
    """An object of which all properties are there."""
    return dict(type="object", properties=properties, required=list(properties))


def array(items: dict[str, Any]) -> dict[str, Any]:
    return dict(type="array", items=items)


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT, WHOLE, NUMBER = dict(type="string"), dict(type="integer"), dict(type="number")
SHARE = dict(type="number", minimum=0, maximum=1)
CLASS = schema(label=WHOLE, name=TEXT, score=SHARE)
ANSWER = dict(
    label=dict(WHOLE, description="the likeliest class"),
    name=dict(TEXT, description="its name"),
    score=dict(SHARE, description="its probability"),
    top=dict(array(ref("Class")), description="the likeliest classes"),
    cost=dict(NUMBER, description="mean cost of a frame, as budgets count it"),
    saved=dict(
        NUMBER, description="share of operations saved against the highest precision, the policy counted"
    ),
    frames=dict(WHOLE, description="how many there were"),
    actions=dict(array(TEXT), description="what was done with each frame"),
    ms=dict(schema(decode=NUMBER, policy=NUMBER, recognition=NUMBER), description="milliseconds"),
    lost=dict(WHOLE, description="damaged frames, in place of which their neighbours were taken"),
    float_precision=TEXT,
)
NEWEST = {name: value for name, value in ANSWER.items() if name != "actions"} | dict(
    action=dict(TEXT, description="what was done with the newest frame")
)
SCHEMAS = dict(
    Error=schema(error=dict(TEXT, description="one line: what is wrong and what to do")),
    Class=CLASS,
    Answer=schema(**ANSWER),
    Newest=schema(**NEWEST),
    Video=schema(id=TEXT, kept_s=NUMBER),
    Camera=schema(id=TEXT, height=WHOLE, width=WHOLE),
    Health=schema(status=dict(enum=["ok", "stopping"]), workers=WHOLE, waiting=WHOLE),
    Model=schema(
        name=TEXT,
        engine=TEXT,
        classes=array(TEXT),
        actions=array(
            schema(
                name=TEXT,
                bits=dict(type=["integer", "null"]),
                size=dict(type=["integer", "null"]),
                skip=WHOLE,
                cost=NUMBER,
            )
        ),
        frames=WHOLE,
        height=WHOLE,
        width=WHOLE,
        budgets=array(
            schema(cost=NUMBER, accuracy=dict(type=["number", "null"]), as_trained=dict(type="boolean"))
        ),
        samples=array(schema(id=TEXT, name=TEXT, about=TEXT)),
        limits=schema(
            upload_bytes=WHOLE, kept_s=NUMBER, live=WHOLE, streams=dict(enum=["off", "public", "any"])
        ),
    ),
)
REASONS = {
    400: "a field, a budget or a body that cannot be",
    403: "a page of another site asks, or the address may not be read",
    404: "there is no such video or camera, or its time is over",
    408: "it did not arrive in time",
    409: "the bundle takes no streams",
    413: "larger than allowed",
    415: "another content type than the one asked for",
    422: "the video cannot be read",
    429: "too many requests of this client at a time; Retry-After says when to ask again",
    503: "no place is left, or the server is stopping; Retry-After says when to ask again",
    504: "recognition took too long",
    507: "the server's disk has no room for the video",
}
BUDGET = "mean cost of a frame (0.4) or time of a clip (30ms); without it the policy decides as trained"


def json_body(name: str, what: str) -> dict[str, Any]:
    return dict(description=what, content={"application/json": dict(schema=ref(name))})


def operation(
    summary: str, description: str, answers: dict[int, Any], *errors: int, **more: Any
) -> dict[str, Any]:
    responses = {str(status): answer for status, answer in answers.items()}
    responses |= {str(status): json_body("Error", REASONS[status]) for status in errors}
    return dict(summary=summary, description=description, responses=responses, **more)


def path_id(what: str) -> dict[str, Any]:
    return {"name": "id", "in": "path", "required": True, "description": what, "schema": TEXT}


def events(*kinds: str) -> dict[str, Any]:
    return dict(
        description=f"server-sent events: {', '.join(kinds)}",
        content={"text/event-stream": dict(schema=TEXT)},
    )


def document(limits: Limits) -> dict[str, Any]:
    """The whole document."""
    budget = {"name": "budget", "in": "query", "description": BUDGET, "schema": TEXT}
    upload = dict(
        required=True,
        content={
            "multipart/form-data": dict(
                schema=dict(
                    type="object",
                    required=["file"],
                    properties=dict(
                        file=dict(
                            type="string",
                            contentMediaType="application/octet-stream",
                            description=f"the video, at most {limits.upload_bytes / MIB:g} MiB",
                        ),
                        budget=dict(TEXT, description=BUDGET),
                    ),
                )
            )
        },
    )
    paths = {
        "/v1/recognize": dict(
            post=operation(
                "Recognize a video",
                "The video is removed once it has been answered.",
                {200: json_body("Answer", "what the video shows")},
                *(400, 408, 413, 415, 422, 429, 503, 504, 507),
                requestBody=upload,
            )
        ),
        "/v1/videos": dict(
            post=operation(
                "Keep a video",
                f"It can be recognized again and again, for {limits.kept_s:g} seconds after the last time.",
                {201: json_body("Video", "its id")},
                *(400, 408, 413, 415, 429, 507),
                requestBody=upload,
            )
        ),
        "/v1/videos/{id}": dict(
            delete=operation(
                "Forget a video",
                "Its file is removed.",
                {204: dict(description="it is gone")},
                *(404, 429),
                parameters=[path_id("of the video")],
            )
        ),
        "/v1/videos/{id}/events": dict(
            get=operation(
                "Follow the recognition of a video",
                "queued {before}, clip {frames, lost, decode_ms, pictures}, frame for each frame (what the clip is so "
                "far, its index and action), and last result (an Answer) or failed {status, error}. "
                "Samples are videos too: GET /v1/model lists them.",
                {200: events("queued", "clip", "frame", "result", "failed")},
                *(400, 404, 429, 503),
                parameters=[path_id("of the video, or of a sample"), budget],
            )
        ),
        "/v1/cameras": dict(
            post=operation(
                "Begin with a camera",
                f"It ends by itself after {limits.live_idle_s:g} seconds without a frame.",
                {201: json_body("Camera", "its id, and the size of frames that it takes")},
                *(409, 429, 503),
            )
        ),
        "/v1/cameras/{id}": dict(
            post=operation(
                "Push a camera's next frame",
                "The frame is height x width x 3 bytes, RGB, row by row.",
                {200: json_body("Newest", "what the stream is so far")},
                *(400, 404, 408, 429),
                parameters=[path_id("of the camera"), budget],
                requestBody=dict(required=True, content={"application/octet-stream": {}}),
            ),
            delete=operation(
                "End a camera",
                "Its place is free at once.",
                {204: dict(description="it has ended")},
                *(404, 429),
                parameters=[path_id("of the camera")],
            ),
        ),
        "/v1/streams": dict(
            post=operation(
                "Follow a stream",
                "The server reads an http(s) or rtsp(s) address, if it was started with --streams for it. Events: "
                "frame (what the stream is so far, and a picture), notice {text}, and last result or failed.",
                {200: events("frame", "notice", "result", "failed")},
                *(400, 403, 408, 409, 413, 415, 429, 503),
                requestBody=dict(
                    required=True,
                    content={
                        "application/json": dict(
                            schema=dict(
                                type="object",
                                required=["source"],
                                properties=dict(
                                    source=dict(TEXT, description="the address"),
                                    fps=dict(NUMBER, description="frames a second, 5 by default"),
                                    budget=dict(TEXT, description=BUDGET),
                                ),
                            )
                        )
                    },
                ),
            )
        ),
        "/v1/model": dict(
            get=operation(
                "What the model knows",
                "Classes, actions, the budgets within reach, the samples, the limits.",
                {200: json_body("Model", "the model")},
            )
        ),
        "/v1/openapi.json": dict(
            get=operation(
                "This document",
                "OpenAPI 3.1.",
                {200: dict(description="the document", content={"application/json": {}})},
            )
        ),
        "/healthz": dict(
            get=operation(
                "Whether the server takes videos",
                "503 while it stops.",
                {200: json_body("Health", "it does"), 503: json_body("Health", "it is stopping")},
            )
        ),
        "/metrics": dict(
            get=operation(
                "Figures for Prometheus",
                "Requests, videos, frames by action, seconds by part, queue, memory.",
                {200: dict(description="text", content={"text/plain": dict(schema=TEXT)})},
            )
        ),
    }
    return dict(
        openapi="3.1.0",
        info=dict(
            title="mmvideoiq",
            version=__version__,
            description="Recognizes videos at a precision that is chosen for each frame.",
        ),
        paths=paths,
        components=dict(schemas=SCHEMAS),
    )

"""The requests of the pages. Flask's own part of them: what they show is in :mod:`backend.web.pages.figures`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import flask
from werkzeug.exceptions import BadRequest, Forbidden, NotFound

from backend.events import LARGEST_ID
from backend.files import learned_picture
from backend.reporting.judged import judged_of
from backend.state import Project
from backend.store.reading import folder_to_read
from backend.web.pages import guard, overlays
from backend.web.pages.acceptance import acceptance_card
from backend.web.pages.answers import answer, back_to
from backend.web.pages.calibration import calibration_card
from backend.web.pages.charts import learning_curves
from backend.web.pages.control import control_card
from backend.web.pages.figures import ProjectFigures, frame_of, now_of, overview, project_figures
from backend.web.pages.guard import Seal
from backend.web.pages.mapped import map_points
from backend.web.pages.rendering import ASSETS, page
from backend.web.pages.replay_chart import replay_values
from backend.web.pages.team import again, team_card, withdrawal
from backend.web.services import Services
from samplers import SAMPLERS

RUNNING_SECONDS, IDLE_SECONDS = 2, 15
"""How often a page asks for what runs, while something does and else."""

POST_SECONDS = 2.0
OUT_OF_DATE = "This form is out of date: open the project's page again, and try once more."
_DAY = 86_400


class Pages:
    """The pages of a web process."""

    def __init__(self, services: Services) -> None:
        self._services, self._state, self._settings = services, services.state, services.settings

    def table(self) -> list[tuple[str, list[str], Any]]:
        """(path, methods, view) of each; the overview is at the backend's own address."""
        return [
            ("/projects/<project>", ["GET"], self.project),
            ("/projects/<project>/cycle", ["POST"], self.cycle),
            ("/projects/<project>/replay", ["POST"], self.replay),
            ("/projects/<project>/again", ["POST"], self.again),
            ("/projects/<project>/not-again", ["POST"], self.not_again),
            ("/projects/<project>/images/<name>", ["GET"], self.image),
            ("/projects/<project>/masks/<name>", ["GET"], self.mask),
            ("/projects/<project>/learned.png", ["GET"], self.learned),
            ("/assets/<name>", ["GET"], self.asset),
        ]

    @cached_property
    def _seal(self) -> Seal:
        return Seal(self._state.keys.get("pages"))

    @cached_property
    def _pictures(self) -> Any:
        from backend.images.thumbnails import Thumbnails  # here: it imports Pillow

        return Thumbnails()

    @property
    def _writable(self) -> bool:
        return bool(self._settings.basic_auth_user)

    # -- views -------------------------------------------------------------------------------------------------------

    def overview(self) -> flask.Response:
        self._check()
        found = overview(self._state, self._settings)
        running = any(now.running for now in found.projects)
        template = "overview_now.html" if _is_part() else "overview.html"
        return answer(page(template, root="", overview=found, seconds=_seconds(running)))

    def project(self, project: str) -> flask.Response:
        self._check()
        known = self._known(project)
        if _is_part():
            now = now_of(self._state, self._settings, known, self._state.now())
            return answer(page("now.html", now=now, seconds=_seconds(bool(now.running))))
        found = project_figures(self._state, self._settings, known)
        if flask.request.args.get("part") == "map":
            return self._map(known, found)
        judged = judged_of(self._state, known, found.now.facts.current)
        team = team_card(self._state, known, found.now.facts.current, self._seal if self._writable else None)
        sources = {one.task: one.source for one in found.next_tasks}
        doubted = [one.task for one in judged.doubted] if judged else []
        sources |= self._state.tasks.sources(known.id, [*doubted, *team.tasks])
        images = self._images(known, sources, found.frame)
        seconds = _seconds(bool(found.now.running))
        return answer(
            page(
                "project.html",
                root="../",
                now=found.now,
                found=found,
                judged=judged,
                team=team,
                curves=learning_curves(found.curve, found.ahead),
                calibration=calibration_card(judged),
                **replay_values(found.now.facts.replay),
                control=control_card(found.now.facts),
                acceptance=acceptance_card(found.now.facts),
                images=images,
                masks=self._masks(known, found),
                mapped=found.mapped,
                learned=self._has_learned(known, found.now.facts.sampler),
                tokens=self._tokens(known),
                seconds=seconds,
            )
        )

    def cycle(self, project: str) -> flask.Response:
        """Ask for a cycle. Asking twice from one page asks once."""
        known, given = self._form(project)
        asking = _asking("cycle", known, known.train_seq), _asking("cycle", known, known.train_seq - 1)
        return self._asked(known, given, asking, lambda: self._state.hints.add(known.id, train=True))

    def replay(self, project: str) -> flask.Response:
        """Ask for a replay of the labels. Until that is over, asking again changes nothing."""
        known, given = self._form(project)
        asking = _asking("replay", known, known.replay_seq), _asking("replay", known, known.replay_seq - 1)
        return self._asked(known, given, asking, lambda: self._state.replays.ask(known.id))

    def again(self, project: str) -> flask.Response:
        """Ask one more annotator to label a task. Asking twice asks once."""
        known, task = self._task_form(project, again)

        def ask() -> bool:
            return self._state.team.ask(known.id, task) and self._state.hints.add(known.id, tasks=True)

        if self._services.write(ask, POST_SECONDS) is False:  # None: it is done later
            raise BadRequest("This task has no label any more, so there is nothing to ask again.")
        return back_to(known)

    def not_again(self, project: str) -> flask.Response:
        """Take back that a task is asked again. What is done already stays."""
        known, task = self._task_form(project, withdrawal)
        self._services.write(lambda: self._state.team.withdraw(known.id, task), POST_SECONDS)
        self._services.write(lambda: self._state.hints.add(known.id, tasks=True), POST_SECONDS)
        return back_to(known)

    def image(self, project: str, name: str) -> flask.Response:
        """The picture of a task, at an address that only a page can give."""
        self._check()
        known = self._known(project)
        parts = re.fullmatch(r"([0-9]{1,10})-([0-9a-f]{32})\.jpg", name)
        task = int(parts[1]) if parts else 0
        source = self._state.tasks.sources(known.id, [task]).get(task, "") if 0 < task <= LARGEST_ID else ""
        version = self._state.versions.current(known.id)
        frame = frame_of(version.metrics) if version else None
        if not parts or not source or frame is None or not self._seal.holds(parts[2], *_picture(known, task, source)):
            raise NotFound("There is no such image.")
        picture = self._pictures.jpeg(self._folder(known), frame, task, source)
        if picture is None:
            raise NotFound("The image is not here any more.")
        return answer(picture, "image/jpeg", f"private, max-age={_DAY}, immutable")

    def mask(self, project: str, name: str) -> flask.Response:
        """What is predicted for a task in the order in use, to lie over its picture, at such an address too."""
        self._check()
        known = self._known(project)
        parts = re.fullmatch(r"([0-9]{1,10})-([0-9a-f]{32})\.png", name)
        task, version = int(parts[1]) if parts else 0, self._state.versions.current(known.id)
        if not parts or version is None or not self._seal.holds(parts[2], *overlays.sealed(known, version, task)):
            raise NotFound("There is no such mask.")
        picture = overlays.overlay(self._settings, known, version, task)
        if picture is None:
            raise NotFound("The mask is not here any more.")
        return answer(picture, "image/png", f"private, max-age={_DAY}, immutable")

    def learned(self, project: str) -> flask.Response:
        """What a sampler learned from the images, as a picture."""
        self._check()
        try:
            picture = learned_picture(self._folder(self._known(project))).read_bytes()
        except OSError:
            raise NotFound("There is no such picture.") from None
        return answer(picture, "image/png", "private, no-cache")

    def asset(self, name: str) -> flask.Response:
        """A file of the pages, which shows nothing of any project."""
        if name not in ASSETS:
            raise NotFound("There is no such file.")
        content, kind = ASSETS[name]
        return answer(content, kind, f"private, max-age={365 * _DAY}, immutable")

    # -- what they have in common ------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Whoever comes this far has the password, if there is one. Raises Forbidden."""
        if not self._settings.basic_auth_user and not guard.is_this_machine(flask.request.environ):
            raise Forbidden(guard.NOT_HERE)

    def _map(self, known: Project, found: ProjectFigures) -> flask.Response:
        """The map's images, for the script of the page."""
        if found.mapped is None:
            raise NotFound("There is no map.")
        sources = self._state.tasks.sources(known.id, found.mapped.tasks)
        images = self._images(known, sources, found.frame)
        link = found.links.task(1).removesuffix("1")
        points = map_points(found.mapped, images, f"{known.id}/images/", link)
        return answer(json.dumps(points, separators=(",", ":")), "application/json")

    def _form(self, project: str) -> tuple[Project, str]:
        """The project that a form is about, and what the form proves that it comes from us with. Raises Forbidden."""
        self._check()
        if not self._writable:
            raise Forbidden(guard.NO_CHANGES)
        known = self._known(project)
        if guard.came_from_elsewhere(dict(flask.request.headers)):
            raise Forbidden("The form was sent by another site.")
        flask.request.max_content_length = flask.request.max_form_memory_size = 10_000
        return known, flask.request.form.get("token", "")

    def _task_form(self, project: str, what: Callable[[Project, int], tuple[str, ...]]) -> tuple[Project, int]:
        """The project and the task that a form is about. ``what``: what is sealed in it. Raises Forbidden,
        BadRequest."""
        known, given = self._form(project)
        number = flask.request.form.get("task", "")
        task = int(number) if re.fullmatch(r"[0-9]{1,10}", number) else 0
        if not 0 < task <= LARGEST_ID or not self._seal.holds(given, *what(known, task)):
            raise BadRequest(OUT_OF_DATE)
        return known, task

    def _asked(
        self,
        known: Project,
        given: str,
        asking: tuple[tuple[str, ...], tuple[str, ...]],
        ask: Callable[[], object],
    ) -> flask.Response:
        """Ask for it, unless this form was sent before, and show the page again. ``asking``: what is sealed in a form
        of now, and in one that was sent before. Raises BadRequest."""
        if self._seal.holds(given, *asking[0]):
            self._services.write(ask, POST_SECONDS)
        elif not self._seal.holds(given, *asking[1]):
            raise BadRequest(OUT_OF_DATE)
        return back_to(known)

    def _known(self, project: str) -> Project:
        """The project with this id of ours, whatever its standing. Raises NotFound."""
        number = int(project) if re.fullmatch(r"[0-9]{1,10}", project) else 0
        found = self._state.projects.get(number) if 0 < number <= LARGEST_ID else None
        if found is None:
            raise NotFound("There is no such project.")
        return found

    def _images(self, project: Project, sources: dict[int, str], frame: tuple[int, int] | None) -> dict[int, str]:
        """Task → the name of its picture, of those tasks whose image is there."""
        if frame is None:
            return {}
        there = self._pictures.present(self._folder(project), frame, sources)
        return {task: f"{task}-{self._seal.of(*_picture(project, task, sources[task]))}.jpg" for task in there}

    def _masks(self, known: Project, found: ProjectFigures) -> dict[int, str]:
        """Task → the name of its mask, of the next tasks that have one."""
        version, tasks = found.now.facts.current, [one.task for one in found.next_tasks if one.drawn is not None]
        if version is None:
            return {}
        return {task: f"{task}-{self._seal.of(*overlays.sealed(known, version, task))}.png" for task in tasks}

    def _has_learned(self, project: Project, sampler: str) -> bool:
        known = SAMPLERS.get(sampler)  # none where the settings are refused
        return known is not None and known.prepares and learned_picture(self._folder(project)).is_file()

    def _folder(self, project: Project) -> Any:
        return folder_to_read(self._settings, project)

    def _tokens(self, known: Project) -> dict[str, str]:
        """For the forms of a page; each "" where nothing may be changed."""
        asked = {"cycle": known.train_seq, "replay": known.replay_seq}
        return {what: self._seal.of(*_asking(what, known, n)) if self._writable else "" for what, n in asked.items()}


def _picture(project: Project, task: int, source: str) -> tuple[str, ...]:
    return "image", project.key, project.studio, str(task), source


def _asking(what: str, project: Project, already: int) -> tuple[str, ...]:
    """``already``: how often ``what`` was asked for before, so that a form counts once."""
    return what, project.key, project.studio, str(already)


def _is_part() -> bool:
    return flask.request.args.get("part") == "now"


def _seconds(running: bool) -> int:
    return RUNNING_SECONDS if running else IDLE_SECONDS

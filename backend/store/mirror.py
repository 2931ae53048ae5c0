"""A project's folder in the object store: what one machine has learned, any other goes on with.

The folder in ``MODEL_DIR`` stays what everything reads and writes; this brings it up to date before a worker begins,
and stores what the worker has changed. In the store there is, for each project:

    projects/<folder>/manifests/<time>-<id>.json    all that belongs to one moment: :mod:`backend.store.manifest`
    projects/<folder>/files/<id>                    a file: a checkpoint, predictions, what was prepared
    projects/<folder>/rows/<cache>/<chunk>          some rows of a cache: :mod:`backend.store.row_chunks`

No object is ever changed, and which manifest counts stands in the project's row of the state, where only the holder of
its lease can write. So a worker that has lost its lease may still send objects, but none of them is ever read.

Beside the files, ``.stored.json`` says what of them is in the store.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from backend.errors import StoreUnavailable
from backend.files import NEIGHBORS
from backend.images.row_cache import LAYOUT
from backend.images.row_log import FORMAT
from backend.store.manifest import MANIFESTS, CachedRows, Manifest, later_name
from backend.store.objects import IN_FLIGHT, NoObject, Objects, in_threads
from backend.store.record import LOCK, RECORD, Record, Stamp, locked, stamp_of
from backend.store.row_chunks import ChunkedRows, caches_in, open_rows
from models.files import DRAFT

log = logging.getLogger(__name__)

_NOT_STORED = (RECORD, LOCK, "lock", "index", LAYOUT, NEIGHBORS)  # the last is made again when it is needed
_NOT_STORED_FOLDERS = ("trying",)

Commit = Callable[[str], None]
"""Makes a manifest, by name, the one that counts. Raises LeaseLost if the project is another worker's by now."""


class Mirror:
    """Of one project's ``folder``. Any number of processes on one machine may use it, of which one holds the lease."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects, self.folder = objects, folder
        self._prefix = f"projects/{folder.name}"

    # -- from the store ----------------------------------------------------------------------------------------------

    def pull(self, name: str, check: Callable[[], None]) -> bool:
        """Bring all of the folder to the manifest ``name``, or to the newest there is: where the state was lost ("") or
        put back from a backup, or has to do with another store. For the holder of the lease. What is only here, and was
        never in the store, stays. Returns whether anything was to be done.

        Args:
            check: called before each object; raises if the worker must not go on.

        Raises:
            StoreUnavailable: the store does not respond, or what it has is of another version of this backend.
        """
        with locked(self.folder):
            record = self._record()
            if name and record.name == name and record.whole:
                return False
            manifest = self._manifest(name) if name else None
            if manifest is None:
                name = self._newest()
                if not name or (record.name == name and record.whole):
                    return False
                manifest = self._manifest(name)
                if manifest is None:
                    return False
            log.info("%s is brought up to date from the store", self.folder.name)
            seen = self._pull_files(record, manifest, list(manifest.files), check)
            self._pull_rows(manifest, check)
            self._keep(Record(name, True, manifest, seen))
            self._sweep(manifest, name)
            return True

    def pull_some(self, name: str, wanted: Callable[[str], bool]) -> bool:
        """Bring those files to the manifest ``name`` whose path is ``wanted``: for who only reads, perhaps on a machine
        where nobody works on the project. Returns whether it was done: not where another process is at it right now.
        Raises StoreUnavailable."""
        with locked(self.folder, wait=False) as mine:
            record = self._record()
            if not mine or (record.name == name and record.whole) or record.name > name:  # who asks may be behind
                return mine
            manifest = record.manifest if record.name == name else self._manifest(name)
            if manifest is not None:
                seen = self._pull_files(record, manifest, [path for path in manifest.files if wanted(path)])
                if (record.name, record.seen) != (name, seen):
                    self._keep(Record(name, False, manifest, seen))
            return True

    def _pull_files(
        self, record: Record, manifest: Manifest, wanted: list[str], check: Callable[[], None] = lambda: None
    ) -> dict[str, Stamp]:
        """Fetch the ``wanted`` files of ``manifest``, and delete those that it has no more. Returns those that are here
        as it has them."""
        seen: dict[str, Stamp] = {}
        for path, stamp in record.seen.items():
            if path not in manifest.files:
                (self.folder / path).unlink(missing_ok=True)
            elif record.manifest.files.get(path) == manifest.files[path] and (self.folder / path).is_file():
                seen[path] = stamp

        def fetch(path: str) -> None:
            check()
            try:
                self._objects.fetch(f"{self._prefix}/{manifest.files[path][0]}", self.folder / path)
                seen[path] = stamp_of(self.folder / path)
            except NoObject as error:  # somebody deleted it: go on as if the file had been lost here
                log.warning("%s: %s is lost: %s", self.folder.name, path, error)

        list(in_threads([path for path in wanted if path not in seen], fetch))
        return seen

    def _pull_rows(self, manifest: Manifest, check: Callable[[], None]) -> None:
        for path, kept in sorted(manifest.caches.items()):
            if kept.layout.get("format", FORMAT) != FORMAT:
                continue  # another version decoded them
            rows = open_rows(self.folder / path, kept.layout)
            here = rows.names()
            wanted = [name for number, name in sorted(kept.chunks.items()) if _last(name) != here.get(number)]
            for content in in_threads(wanted, self._chunk):
                check()
                self._take(rows, content)

    def _chunk(self, name: str) -> bytes:
        try:
            return self._objects.get(f"{self._prefix}/{name}")
        except NoObject:
            return b""

    def _take(self, rows: ChunkedRows, content: bytes) -> None:
        try:
            rows.take(content)
        except ValueError as error:
            log.warning("%s: some rows are lost in the store, and are made again: %s", self.folder.name, error)

    # -- into the store ----------------------------------------------------------------------------------------------

    def push(
        self,
        commit: Commit,
        check: Callable[[], None],
        *,
        rows: bool = False,
        enough: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Store the files that have changed, and with ``rows`` the rows of caches. For the holder of the lease, who has
        brought the folder up to date before.

        Args:
            check: called before each object; raises if the worker must not go on. What was sent until then is not lost:
                rows are not sent again, and nothing counts until it is committed.
            enough: whether to leave the rest of the rows for another time.

        Returns:
            Whether everything was stored.
        """
        with locked(self.folder):
            record = self._record()
            files, seen = self._push_files(record, check)
            caches, whole = self._push_rows(record, check, enough) if rows else (record.manifest.caches, True)
            self._commit(record, Manifest(files, caches), seen, commit, check)
        return whole

    def _push_files(
        self, record: Record, check: Callable[[], None]
    ) -> tuple[dict[str, tuple[str, int]], dict[str, Stamp]]:
        files, seen = dict(record.manifest.files), dict(record.seen)
        here = {path: stamp_of(self.folder / path) for path in self._stored_files()}
        for path in files.keys() - here.keys():
            del files[path]
            seen.pop(path, None)
        changed = [path for path, stamp in sorted(here.items()) if path not in files or seen.get(path) != stamp]

        def put(path: str) -> None:
            check()
            name = f"files/{secrets.token_hex(12)}"
            self._objects.put(f"{self._prefix}/{name}", self.folder / path)
            files[path], seen[path] = (name, here[path][0]), here[path]

        list(in_threads(changed, put))
        return files, seen

    def _push_rows(
        self, record: Record, check: Callable[[], None], enough: Callable[[], bool]
    ) -> tuple[dict[str, CachedRows], bool]:
        caches: dict[str, CachedRows] = {}
        whole = True
        for path, rows in caches_in(self.folder):
            before = record.manifest.caches.get(path, CachedRows(rows.layout))
            chunks = dict(before.chunks) if before.layout == rows.layout else {}
            here = {number: f"rows/{path}/{name}" for number, name in rows.names().items()}
            chunks = {number: name for number, name in chunks.items() if number in here}
            changed = [number for number in sorted(here) if chunks.get(number) != here[number]]
            for start in range(0, len(changed), IN_FLIGHT):
                if enough():
                    whole = False
                    break
                some = changed[start : start + IN_FLIGHT]
                self._put_chunks(rows, {number: here[number] for number in some}, check)
                chunks |= {number: here[number] for number in some}
            caches[path] = CachedRows(rows.layout, chunks)
        return caches, whole

    def _put_chunks(self, rows: ChunkedRows, names: dict[int, str], check: Callable[[], None]) -> None:
        def put(item: tuple[str, bytes]) -> None:
            check()
            self._objects.put(f"{self._prefix}/{item[0]}", item[1])

        list(in_threads([(name, rows.chunk(number)) for number, name in names.items()], put))

    def _commit(
        self,
        record: Record,
        manifest: Manifest,
        seen: dict[str, Stamp],
        commit: Commit,
        check: Callable[[], None],
    ) -> None:
        before, after = set(record.manifest.objects()), set(manifest.objects())
        if record.name and before == after and record.manifest.files.keys() == manifest.files.keys():
            return
        replaced = (before - after) | ({record.name} if record.name else set())
        manifest = replace(manifest, replaced=tuple(sorted(replaced)))
        name = later_name(record.name)
        check()
        self._objects.put(f"{self._prefix}/{name}", manifest.encoded())
        commit(name)
        self._keep(Record(name, True, manifest, seen))
        done_with = set(record.manifest.replaced) - after - {record.name}
        self._objects.delete([f"{self._prefix}/{name}" for name in sorted(done_with)])

    # -- the rest ----------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Delete all that the store has of the project. Raises StoreUnavailable."""
        self._objects.delete(self._objects.names(f"{self._prefix}/"))

    def is_current(self, name: str) -> bool:
        """Whether all of the folder is, or goes on from, what the manifest ``name`` has."""
        record = self._record()
        return record.whole and record.name == name

    def release_caches(self) -> list[Path]:
        """Say that the caches in the folder have to be fetched again, so that they may be deleted: (path) of each. For
        the holder of the lease, after everything was stored."""
        with locked(self.folder):
            record = self._record()
            self._keep(replace(record, whole=False))
            return [self.folder / path for path, _ in caches_in(self.folder) if "/" not in path]

    def _sweep(self, manifest: Manifest, name: str) -> None:
        """Delete what workers that were killed, or lost the project, have sent and nobody names."""
        named = {f"{self._prefix}/{one}" for one in (*manifest.objects(), *manifest.replaced, name)}
        self._objects.delete([one for one in self._objects.names(f"{self._prefix}/") if one not in named])

    def _newest(self) -> str:
        found = self._objects.names(f"{self._prefix}/{MANIFESTS}")
        return found[-1].removeprefix(f"{self._prefix}/") if found else ""

    def _manifest(self, name: str) -> Manifest | None:
        """None if there is none of that name: then ``STORE`` names another place than before, and nothing is there."""
        try:
            return Manifest.decoded(self._objects.get(f"{self._prefix}/{name}"))
        except NoObject:
            log.warning("The store %s has no %s of %s", self._objects.address, name, self.folder.name)
            return None
        except ValueError as error:  # going on without it could overwrite what a newer version of this backend stored
            words = f"{self._prefix}/{name} in the store {self._objects.address} (STORE) cannot be read: {error}"
            raise StoreUnavailable(words) from error

    def _stored_files(self) -> Iterator[str]:
        """The paths of all files of the folder that are stored as a whole."""
        rows = {self.folder / path: set(cache.layout["files"]) | {"stamps"} for path, cache in caches_in(self.folder)}
        for path in self.folder.rglob("*"):
            relative = path.relative_to(self.folder)
            left_out = path.name in _NOT_STORED or path.suffix == DRAFT or relative.parts[0] in _NOT_STORED_FOLDERS
            if not left_out and path.name not in rows.get(path.parent, ()) and path.is_file():
                yield relative.as_posix()

    def _record(self) -> Record:
        return Record.read(self.folder, self._objects.address)

    def _keep(self, record: Record) -> None:
        record.write(self.folder, self._objects.address)


def _last(name: str) -> str:
    return name.rpartition("/")[2]

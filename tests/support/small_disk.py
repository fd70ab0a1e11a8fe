"""`python -m tests.support.small_disk config serve --config FILE`: a service whose state is on a small disk of its own.

With `--enter NAMESPACE` before `config` it is the disk of an earlier service. The disk is a tmpfs in a mount namespace:
nobody else sees it, and it goes with the last that uses it, however that ends. The log goes to a file there, too: a
full disk is full for logs as well.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.service import ROOT, Service

DISK_BYTES: Final = 2 << 20
LOG: Final = "service.log"  # on the small disk
_ENTER: Final = "--enter"
_FILLING: Final = "fills-the-disk"
_MOUNT: Final = 'mount -t tmpfs -o mode=0700,size="$1" tmpfs "$0" && log="$0/$2" && shift 2 && exec "$@" 2>>"$log"'


class SmallDisk:
    """The disk of a running service, as the service sees it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        folder = Path(service.settings["state_dir"])
        self.folder = Path(f"/proc/{service.pid}/root") / folder.relative_to("/")

    @property
    def log(self) -> str:
        """What the service has logged, as far as it could."""
        return (self.folder / LOG).read_text()

    def fill(self) -> None:
        """Leave not one byte free, not even in the last page of the log."""
        for name, sizes in ((_FILLING, (1 << 16, 1 << 12)), (LOG, (1,))):
            with (self.folder / name).open("ab", buffering=0) as file:
                for size in sizes:
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(b"\n" * size)

    def make_room(self) -> None:
        """Undo `fill`."""
        (self.folder / _FILLING).unlink()

    @contextlib.contextmanager
    def outliving(self) -> Iterator[tuple[str, ...]]:
        """Keep the disk when the service has ended; gives the program of the next service that is to have it."""
        descriptor = os.open(f"/proc/{self._service.pid}/ns/mnt", os.O_RDONLY)
        try:
            yield "tests.support.small_disk", _ENTER, f"/proc/{os.getpid()}/fd/{descriptor}", "config"
        finally:
            os.close(descriptor)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a redconnect command on the same disk."""
        enter = ["nsenter", "--mount", "--target", str(self._service.pid), "--wd=" + str(ROOT)]
        return subprocess.run(
            [*enter, sys.executable, "-m", "config", *words, "--config", str(self._service.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def main() -> None:
    """Become the service, on a new disk or on an earlier one."""
    words = sys.argv[1:]
    if words[0] == _ENTER:
        enter = ["nsenter", f"--mount={words[1]}", f"--wd={ROOT}"]
        words = words[2:]
    else:
        folder = json.loads(Path(words[-1]).read_text())["state_dir"]
        Path(folder).mkdir(parents=True, exist_ok=True)
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNT, folder, str(DISK_BYTES), LOG]
    os.execvp(enter[0], [*enter, sys.executable, "-m", *words])  # noqa: S606  # the same process: it is signalled


if __name__ == "__main__":
    main()

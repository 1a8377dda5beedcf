"""A stand-in for the driver: notes that it started, stops cleanly on TERM with exit status 3."""

import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    number = 1 + len(list(directory.glob("started-*")))

    def stop(*_):
        (directory / f"stopped-{number}").touch()
        sys.exit(3)

    signal.signal(signal.SIGTERM, stop)
    (directory / f"started-{number}").touch()
    time.sleep(300)

"""The progress bar of a sweep."""

import numpy as np


class Progress:
    """A bar of lane-steps with the lanes alive and the best training loss so far; nothing at all unless `shown`."""

    def __init__(self, shown):
        self.shown, self.bar, self.best = shown, None, np.inf

    def begin(self, lane_steps):
        """Draws the empty bar of a sweep of that many lane-steps."""
        if not self.shown:
            return
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise ImportError('a progress bar needs tqdm: pip install "adamx[lab]", or pass progress=False') from error
        self.bar = tqdm(total=lane_steps, unit=" steps", unit_scale=True, dynamic_ncols=True)

    def add(self, lane_steps, alive, losses):
        """Goes on by `lane_steps`, with so many lanes alive, which have these losses."""
        if self.bar is not None:
            self.best = float(np.fmin.reduce([self.best, *np.ravel(losses)]))
            self.bar.set_postfix_str(f"{alive} lanes alive, best loss {self.best:.4g}", refresh=False)
            self.bar.update(lane_steps)

    def stop(self, lane_steps):
        """Leaves out `lane_steps` that need not be made."""
        if self.bar is not None:
            self.bar.total -= lane_steps
            self.bar.refresh()

    def close(self):
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()

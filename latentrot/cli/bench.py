"""The command `evaluate bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentrot.cli.common import check_folder, check_minimum
from latentrot.files import check_writable

__all__ = ["Bench"]


@dataclass(frozen=True)
class Bench:
    """Measure speed and round-trip PSNR of inversion, decoding and edits, and compare with a plain diffusers loop."""

    data: Path | None = None
    """CelebA folder whose held-out people are inverted and decoded; by default the bundled portrait"""
    model: str | None = None
    """a diffusers folder or a Hub id; by default the bundled model, the only one whose edits are timed"""
    out: Path | None = None
    """.csv file for the results"""
    steps: int = 20
    """number of steps of inversion and of decoding in the comparison"""
    batches: tuple[int, ...] = (1, 16, 64)
    """batch sizes"""
    more_steps: tuple[int, ...] = (50, 100)
    """further step counts for which the round trip of the plain loop is measured"""
    people: int = 8
    """number of images for the round trip"""
    repeats: int = 3
    """number of runs per median"""
    threads: int | None = None
    """CPU threads; by default torch's choice"""
    device: str = "cpu"
    """cpu, cuda or cuda:N"""

    def run(self) -> None:
        """Measure, print each row, and write the table."""
        if self.data is not None:
            check_folder(self.data)
        if self.out is not None:
            check_writable(self.out)
        import torch  # noqa: PLC0415

        from latentrot.evaluation.bench.compare import BenchConfig, compare, write_rows  # noqa: PLC0415

        for name in ("steps", "people", "repeats", "threads"):
            check_minimum(f"--{name}", getattr(self, name) or 1, 1)
        for batch in self.batches:
            check_minimum("--batches", batch, 1)
        if self.threads:
            torch.set_num_threads(self.threads)
        from latentrot.devices import resolve_device  # noqa: PLC0415

        device = str(resolve_device(self.device))
        config = BenchConfig(self.steps, self.batches, self.more_steps, self.people, self.repeats, device)
        rows = []
        for row in compare(self.data, self.model, config):
            rows.append(row)
            print(f"{row.part:18} {row.way:42} {row.quantity:32} {row.value:10.3f}", flush=True)
        if self.out is not None:
            write_rows(self.out, rows)
            print(f"wrote {self.out}")

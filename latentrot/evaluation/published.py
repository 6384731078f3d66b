"""Published figures of a similar protocol on other data, for orientation."""

from __future__ import annotations

__all__ = ["PROTOCOL_COLUMNS", "SPINMEROUND", "SPINMEROUND_SOURCE"]

#: column of Table 1 of SpinMeRound -> the corresponding measure of the package
PROTOCOL_COLUMNS = {"L2": "squared_error", "LPIPS": "lpips", "SSIM": "ssim", "identity": "identity_true"}
SPINMEROUND_SOURCE = (
    "Galanakis, Lattas, Moschoglou, Kainz, Zafeiriou, SpinMeRound, ICCV 2025 (arXiv 2504.10716), Table 1: NeRSemble, "
    "222 people, 16 views at 512 pixels, identity by ArcFace; figures as a summary of the paper quotes them"
)
#: method -> its row in the table: L2, LPIPS, SSIM, identity by ArcFace
SPINMEROUND = {
    "EG3D": (0.025, 0.40, 0.55, 0.31),
    "PanoHead": (0.012, 0.32, 0.65, 0.27),
    "Zero123": (0.195, 0.515, 0.55, 0.169),
    "Zero123-XL": (0.198, 0.51, 0.563, 0.118),
    "SV3D": (0.087, 0.41, 0.66, 0.36),
    "DiffPortrait3D": (0.1, 0.5, 0.35, 0.55),
    "SpinMeRound": (0.033, 0.30, 0.73, 0.61),
}

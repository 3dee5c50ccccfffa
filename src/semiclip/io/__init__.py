"""Read what microscopes and liquid handlers leave behind: profiles, images and plate maps, as AnnData."""

from semiclip.io._images import images
from semiclip.io._plates import plate_map, profiles

__all__ = ["images", "plate_map", "profiles"]

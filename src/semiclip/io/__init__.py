"""Read what microscopes and liquid handlers leave behind: profiles, images and plate maps, as AnnData."""

from semiclip.io._images import images
from semiclip.io._plate_map import plate_map
from semiclip.io._profiles import profiles

__all__ = ["images", "plate_map", "profiles"]

"""The plans that speeds by name stand for: texts as of `StepCache.parse`, by kind of model.

The best plans (calibration.py) for so many computed steps: of noise predictors 13, 10 and 7 of 24
on tiny-sd, of rectified flows 13, 10 and 8 of 50 on tiny-dit. Diffusions are decided early, where
their first steps must be computed; a flow's way bends little, most at its beginning, and 7 steps
would be too far apart: as many plain steps come nearer. The step masks that cache-dit publishes
for large models look alike: dense where the picture is decided, sparse later.
"""

from __future__ import annotations

DIFFUSIONS = {
    "quality": "111111-1-1-1--1--1--1-1",
    "balanced": "11-11-1-1--1---1----1--1",
    "fast": "11-1--1---1------1-----1",
}
FLOWS = {
    "quality": "1-1--1--1--1---1----1----1----1------1-----1---1-1",
    "balanced": "1--1--1----1----1-----1------1-------1-------1---1",
    "fast": "1----1----1-----1------1--------1---------1------1",
}

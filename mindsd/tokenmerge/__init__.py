"""Do less per step: alike tokens go through attention as one."""

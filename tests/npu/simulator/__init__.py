"""A simulator of Ascend NPUs: torch_npu's operators from their documentation, without hardware."""

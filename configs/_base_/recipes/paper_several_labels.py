# As paper.py, measured by mAP.
_base_ = ["./paper.py"]
evaluate = dict(metric="acc/mean_average_precision")

"""The runtime: a trained model as one bundle, run frame by frame at the chosen precision, without torch."""

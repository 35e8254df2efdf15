"""Whole CNNs: trained, fine-tuned, pre-trained by SimCLR, or frozen below a linear head."""

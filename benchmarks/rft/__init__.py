"""RFT beside TRL's GRPOTrainer, and against itself: what a step costs, what a reward costs, overlap, and growth."""

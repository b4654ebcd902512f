"""One question, several answers: attention backends behind one contract."""

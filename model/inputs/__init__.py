"""What training and serving share: the hunk parser, what a path says, the tokenizer and the chunker. No torch."""

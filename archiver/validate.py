"""(stub to be replaced) bytes of a block in, Arrow batches and rejections out."""

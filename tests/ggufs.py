"""GGUF files of tests."""


def finish(writer):
    """Write what a GGUFWriter was given, and close its file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

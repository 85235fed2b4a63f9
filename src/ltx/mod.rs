//! The LTX file format. Pure: streams in, streams out.

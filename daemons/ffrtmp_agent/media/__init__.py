"""Media: command lines, progress, reasons for failure, verification. What touches users' media runs inside the job."""

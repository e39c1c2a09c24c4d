"""S3 as clients see it: boto3 and raw requests against a running server."""

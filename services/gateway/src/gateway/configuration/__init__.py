"""What operators configure at run time. It lives in other services."""

"""What theory says of distilled sets, and whether measurements agree."""

"""What a person does with the library, a file for each verb; the commands call them."""

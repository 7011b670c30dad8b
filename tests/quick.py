"""What `pytest -m quick` runs: about a tenth of the suite, and something of every file."""

RULE = "adan"
"""Of the tests of every rule, or of every case, those of this one: it has three averages, a decay and all of the arguments."""

OF_ALL_RULES = {"test_exact_in_float64"}
"""Tests that run for the default of every rule."""

# File -> tests that run whole.
TESTS = {
    "test_chains": "test_a_chain_without_rules_shows_nothing test_errors_of_a_chain",
    "test_docs": "test_readme_table_is_the_catalogue",
    "test_errors": "test_an_unknown_option_lists_the_known_ones test_an_unknown_rule test_a_gradient_of_another_shape",
    "test_exact": "test_every_rule_has_a_reference_and_a_case test_every_keyword_option_is_in_a_case",
    "test_examples": "test_a_stage_and_a_rule_take_less_than_20_lines",
    "test_experiments_arguments": "test_data_that_are_another_file_are_refused",
    "test_experiments_data": "test_idx_files_are_read test_angles_of_a_long_run_are_drawn_in_stretches",
    "test_experiments_online": "test_a_minibatch_is_a_mean_of_draws",
    "test_foreign_states": "test_swapped_arguments test_something_that_is_no_state",
    "test_golden": "test_golden_trajectories_move_every_leaf_of_every_case",
    "test_hypergradients": "test_hypergradients_at_a_decay_rate_of_zero_are_one_sided_differences",
    "test_identities": "test_the_first_step_of_adam_is_the_learning_rate_times_the_sign",
    "test_interop_optax": "test_a_state_of_another_optimizer test_what_optax_does_not_keep_is_refused",
    "test_interop_torch": "test_what_does_not_fit_is_named test_rules_of_groups",
    "test_known_failures": "test_10_float0_gradients_and_integer_parameters_are_refused_by_name test_12_amsgrad_is_torchs",
    "test_limits": "test_where_all_signs_agree_grams_is_adam",
    "test_lines": "test_every_public_stage_is_among_those_tested_here test_a_line_is_extended_edited_and_inserted_into",
    "test_looking": "test_problem_errors test_a_failed_write_leaves_the_old_file_and_no_other",
    "test_measures": "test_measures_are_what_their_names_say",
    "test_meshes": "",
    "test_modifiers": "test_what_modifiers_do test_what_has_no_place_is_refused test_every_named_combination_can_be_built",
    "test_numerics": "test_debias_weight_is_exact_in_float32_for_every_rate_and_step test_the_complement_of_a_number_is_exact_as_decimal",
    "test_package": "test_what_needs_an_extra_says_which_one test_every_public_name_is_there_and_documented",
    "test_parity": "test_yogi_from_zero_is_that_of_optax",
    "test_powers": "test_a_sum_is_over_all_leaves_that_have_a_gradient test_further_arguments_reach_the_stage_from_update_step_and_trace",
    "test_probe_errors": "test_a_probe_of_something_else test_a_measure_of_ones_own_is_checked_when_it_is_made",
    "test_probes": "test_a_probed_rule_is_a_pytree_and_a_transformation",
    "test_properties": "test_complex_elements_are_clipped_by_modulus",
    "test_reading_states": "test_masked_is_told_apart_from_optaxs test_a_rules_functions_are_not_replaced",
    "test_readme": "test_every_script_that_is_named_exists_and_is_tested test_shell_blocks_are_known",
    "test_rounding": "test_the_derivative_of_rounding_is_one",
    "test_rules": "test_a_step_leaves_what_is_masked_out_as_it_is test_a_chain_is_optaxs_chain_and_a_tree",
    "test_schedules": "test_a_schedule_is_called_once_an_update",
    "test_state": "",
    "test_costs": "",
    "test_kernels": "test_a_fused_rule_is_a_rule test_a_stage_that_is_not_elementwise_is_named",
    "test_storage": "test_only_zero_becomes_zero_in_a_slot_that_is_divided_by test_bytes_of_a_state "
    "test_what_cannot_be_kept_in_few_bits_is_refused",
    "test_structure": "test_a_module_imports_only_from_floors_below_it test_only_the_dependencies_are_imported_at_the_top "
    "test_no_file_is_longer_than_300_lines test_everything_public_has_a_docstring "
    "test_a_rule_is_exported_documented_and_created_by_name test_the_readmes_table_is_the_catalogue",
    "test_sweep_devices": "",
    "test_sweep_errors": "test_spaces test_points",
    "test_sweep_examples": "",
    "test_sweep_result": "test_dimensions_are_even_in_their_own_scale",
    "test_sweep_resume": "test_numbers_hidden_in_functions_are_part_of_the_definition",
    "test_sweep_run": "test_a_loss_may_be_a_python_number",
    "test_typing": "",
    "test_wiring": "test_a_field_that_nobody_wrote test_a_stage_that_nobody_reads",
    "test_with_others": "test_optaxs_chain_accepts_a_rule_in_any_place",
}


def is_quick(file, test, values, rules, cases):
    """Whether a test of these parameters is among them."""
    if test in TESTS.get(file, "").split():
        return True
    names = [value for value in values if isinstance(value, str) and value in cases]
    return bool(names) and (names == [RULE] or test in OF_ALL_RULES and names[0] in rules)
